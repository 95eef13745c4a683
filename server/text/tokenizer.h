// Text to token ids and back, as the reference `tokenizers` library does it for the same definition.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/ids.h"

namespace ebbinghaus::text {

// The tokenizer metadata of a GGUF file, by its keys under `tokenizer.ggml.`.
struct GgufVocabulary {
  std::string model;  // "gpt2" (byte-level BPE) or "llama" (SentencePiece-style BPE with byte fallback)
  std::string pre;    // names the split; unknown: InvalidArgument that names it
  std::vector<std::string> tokens;
  std::vector<float> scores;           // "llama" only
  std::vector<int32_t> token_types;    // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;     // "gpt2" only
  std::optional<base::TokenId> bos_token_id, eos_token_id, unknown_token_id;
  std::optional<bool> add_bos_token, add_space_prefix;
};

struct EncodeOptions {
  bool add_special_tokens = true;  // BOS, where the definition adds it
  bool parse_special = false;      // special tokens spelled out in the text become those tokens
};

// Immutable; thread safe.
class Tokenizer {
 public:
  // From the text of a tokenizer.json. Errors: InvalidArgument that names what is malformed or unsupported.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromJson(std::string_view json);
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromGguf(GgufVocabulary vocabulary);

  virtual ~Tokenizer() = default;
  // Any bytes; invalid UTF-8 is replaced by U+FFFD first. O(n log n).
  virtual std::vector<base::TokenId> Encode(std::string_view text, const EncodeOptions& options) const = 0;
  // Segment by segment variant for chats: pieces are joined as one text, but specials are recognised only in the
  // segments that allow it.
  // The token's own bytes as they appear inside a text. Special tokens: their name. Requires: id < size().
  virtual std::string_view Piece(base::TokenId id) const = 0;
  virtual bool IsSpecial(base::TokenId id) const = 0;
  virtual uint32_t size() const = 0;  // ids are below this
  virtual std::optional<base::TokenId> bos_token_id() const = 0;
};

}  // namespace ebbinghaus::text
