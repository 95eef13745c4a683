// A tokenizer definition, read and resolved: what both kinds of file are turned into. Private to
// this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/text/bpe.h"
#include "server/text/pretokenizer.h"
#include "server/text/tokenizer.h"
#include "server/text/tokenizer_added.h"
#include "server/text/tokenizer_normalizer.h"

namespace ebbinghaus::text {

// How the spelling of a token in the vocabulary becomes its bytes.
struct DecoderRules {
  bool byte_level = false;     // spelled in GPT-2's byte alphabet
  bool byte_fallback = false;  // <0x00> to <0xFF> stand for a byte
  std::vector<std::pair<std::string, std::string>> replacements;
  LeadingSpace leading_space;
};

struct TokenizerDefinition {
  std::vector<std::string> tokens;  // by id, as spelled in the file
  std::vector<bool> matchable;      // by id: whether text may become this token through merging
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeOptions bpe;  // bpe.byte_level goes with a byte-level pre-tokenizer
  std::vector<BpeMerge> merges;
  DecoderRules decoder;
  std::vector<base::TokenId> prefix, suffix;  // put around a text
  std::optional<base::TokenId> bos;
};

// Requires: ids in range, tokens.size() == matchable.size().
// Errors: InvalidArgument when the added tokens are so long that looking for them would cost too
// much.
absl::StatusOr<std::shared_ptr<const Tokenizer>> MakeTokenizer(TokenizerDefinition definition);

// Bytes of a token spelled in GPT-2's alphabet of 256 printable characters; nullopt when a
// character is not in it.
std::optional<std::string> BytesOfByteLevel(std::string_view spelled);

// The split of GPT-2, which also is the byte-level pre-tokenizer's own.
inline constexpr std::string_view kGpt2Split =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Ids of spelled tokens, for the time of loading. Views into the tokens it is made from.
class SpelledTokens {
 public:
  // The first of two equal tokens is found.
  explicit SpelledTokens(const std::vector<std::string>& tokens);
  base::TokenId Find(std::string_view token) const;  // kNoToken when absent
  // The merge of two tokens; errors: InvalidArgument when one of the three is no token.
  absl::StatusOr<BpeMerge> Merge(std::string_view left, std::string_view right,
                                 uint32_t rank) const;

 private:
  std::unordered_map<std::string_view, base::TokenId> ids_;
};

}  // namespace ebbinghaus::text
