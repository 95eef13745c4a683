// What must hold for any tokenizer and any text.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/check.h"
#include "server/text/text_stream.h"
#include "server/text/tokenizer.h"
#include "server/text/unicode.h"

namespace ebbinghaus::fuzz {

inline void CheckDecoding(const text::Tokenizer& tokenizer, const std::vector<base::TokenId>& ids) {
  for (const bool skip_special : {false, true}) {
    const std::string whole = tokenizer.Decode(ids, skip_special);
    EBB_CHECK(text::IsValidUtf8(whole));
    text::TokenDecoder decoder(&tokenizer, skip_special);
    std::string joined;
    for (const base::TokenId id : ids) {
      const std::string delta = decoder.Add(id);
      EBB_CHECK(text::IsValidUtf8(delta));
      joined += delta;
    }
    EBB_CHECK(joined + decoder.Finish() == whole);
  }
}

inline void CheckTokenizer(const text::Tokenizer& tokenizer, std::string_view bytes) {
  const std::string text_of_bytes = text::ReplaceInvalidUtf8(bytes);
  const std::string_view text = text_of_bytes;
  EBB_CHECK(tokenizer.Encode(bytes, {}) == tokenizer.Encode(text, {}));
  for (base::TokenId id = 0; id < tokenizer.size(); ++id) {
    tokenizer.Piece(id);
    tokenizer.IsSpecial(id);
  }
  if (tokenizer.adds_bos()) EBB_CHECK(tokenizer.bos_token_id().has_value());
  for (const bool parse_special : {false, true}) {
    const std::vector<base::TokenId> ids =
        tokenizer.Encode(text, {.add_special_tokens = parse_special, .parse_special = parse_special});
    for (const base::TokenId id : ids) EBB_CHECK(id < tokenizer.size());
    CheckDecoding(tokenizer, ids);
    // However a text is cut between characters, its tokens are the same.
    size_t half = text.size() / 2;
    while (half < text.size() && (static_cast<unsigned char>(text[half]) & 0xc0) == 0x80) ++half;
    const text::TextSegment parts[] = {{text.substr(0, half), parse_special}, {text.substr(half), parse_special}};
    EBB_CHECK(tokenizer.EncodeSegments(parts, parse_special) == ids);
    // Fewer ids are the same ids.
    text::EncodeOptions options{.add_special_tokens = parse_special, .parse_special = parse_special};
    options.limits.max_ids = ids.size() / 2;
    const std::vector<base::TokenId> first = tokenizer.Encode(text, options);
    EBB_CHECK(first.size() == ids.size() / 2 && std::equal(first.begin(), first.end(), ids.begin()));
  }
  std::vector<base::TokenId> any_ids;
  for (const char c : text) any_ids.push_back(static_cast<unsigned char>(c) % (tokenizer.size() + 2));
  CheckDecoding(tokenizer, any_ids);
}

}  // namespace ebbinghaus::fuzz
