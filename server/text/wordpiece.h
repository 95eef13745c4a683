// Models that look words up in a vocabulary: whole ones (WordLevel), or the longest beginning of what
// is left again and again (WordPiece).
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/text/bpe.h"
#include "server/text/encode_stop.h"

namespace ebbinghaus::text {

struct WordPieceOptions {
  bool whole_words = false;          // WordLevel
  std::string continuing_prefix{};   // of a token that does not begin a word
  size_t max_word_characters = 100;  // longer words are unknown
  base::TokenId unknown = kNoToken;  // a word with a part that is no token; without one it vanishes
};

// Immutable; thread safe.
class WordPiece {
 public:
  WordPiece() = default;
  // `texts`: as for Bpe. `aliases`: more spellings of tokens.
  WordPiece(absl::Span<const std::optional<std::string>> texts,
            absl::Span<const std::pair<std::string, base::TokenId>> aliases,
            WordPieceOptions options);

  // Appends the tokens of one word: O(n * longest token). None of them once `stop` has cancelled.
  // Requires: valid UTF-8.
  void Encode(std::string_view word, EncodeStop& stop, std::vector<base::TokenId>& out) const;

 private:
  WordPieceOptions options_;
  TokenIndex index_;
  size_t longest_ = 0;  // bytes of a token
};

}  // namespace ebbinghaus::text
