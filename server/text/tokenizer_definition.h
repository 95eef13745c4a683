// A tokenizer definition, read and resolved: what both kinds of file are turned into. Private to
// this room.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/text/bpe.h"
#include "server/text/pretokenizer.h"
#include "server/text/tokenizer.h"
#include "server/text/tokenizer_added.h"
#include "server/text/tokenizer_decoder.h"
#include "server/text/tokenizer_normalizer.h"
#include "server/text/unigram.h"
#include "server/text/wordpiece.h"

namespace ebbinghaus::text {

// Which model cuts the pieces.
struct BpeDefinition {
  BpeOptions options;  // byte_level: the pre-tokenizer's pieces are bytes
  std::vector<BpeMerge> merges;
  std::vector<BpeDetour> detours;
};
using ModelDefinition = std::variant<BpeDefinition, UnigramOptions, WordPieceOptions>;

struct TokenizerDefinition {
  std::vector<std::string> tokens;  // by id, as spelled in the file; empty: a hole
  std::vector<bool> matchable;      // by id: whether text may become this token through the model
  std::vector<std::pair<std::string, base::TokenId>> aliases;  // more spellings that text may have
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  ModelDefinition model;
  DecoderRules decoder;
  std::vector<base::TokenId> prefix, suffix;  // put around a text
  std::optional<base::TokenId> bos;
};

// Requires: ids in range, tokens.size() == matchable.size().
// Errors: InvalidArgument when the added tokens are so long that looking for them would cost too
// much.
absl::StatusOr<std::shared_ptr<const Tokenizer>> MakeTokenizer(TokenizerDefinition definition);

// More ids are refused: what is kept for each, hole or not, takes memory.
inline constexpr uint32_t kMaxTokens = 1 << 22;

// Of a unigram token, and of one of SentencePiece's merges: every cut of a token is looked up.
inline constexpr size_t kMaxUnigramBytes = 1024;

// Makes tokens special that control a chat or end a text, whatever the file calls them.
void MarkControlTokens(absl::Span<const std::string> texts, TokenizerDefinition& definition);

// Forgets the ids from `rows` on, which the model has no embedding for.
void LimitTokens(uint32_t rows, TokenizerDefinition& definition);

// Each byte's character in GPT-2's alphabet of 256 printable characters.
void AppendByteLevel(std::string_view bytes, std::string& out);

// Bytes of a token spelled in GPT-2's alphabet of 256 printable characters; nullopt when a
// character is not in it.
std::optional<std::string> BytesOfByteLevel(std::string_view spelled);

// The split of GPT-2, which also is the byte-level pre-tokenizer's own.
inline constexpr std::string_view kGpt2Split =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Ids of spelled tokens, for the time of loading. Views into the tokens it is made from.
class SpelledTokens {
 public:
  enum class Of { kFirst, kLast };  // two equal tokens
  SpelledTokens(const TokenizerDefinition& definition, Of found);
  base::TokenId Find(std::string_view token) const;  // kNoToken when absent
  // The merge of two tokens, of which the right one loses `prefix` bytes; errors: InvalidArgument
  // when one of the three is no token.
  absl::StatusOr<BpeMerge> Merge(std::string_view left, std::string_view right, size_t prefix,
                                 uint32_t rank) const;

 private:
  std::unordered_map<std::string_view, base::TokenId> ids_;
};

}  // namespace ebbinghaus::text
