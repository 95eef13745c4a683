// Text to token ids and back, as the reference `tokenizers` library does it for the same
// definition.
#pragma once

#include <cstdint>
#include <functional>
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
  // "gpt2" (byte-level BPE), "gemma4" (BPE), "llama" (SentencePiece-style BPE with byte fallback),
  // "t5" (Unigram) or "bert" (WordPiece)
  std::string model;
  std::string pre;  // "gpt2" only: names the split; empty: "default"
  std::vector<std::string> tokens;
  std::vector<float> scores;  // "llama" and "t5" only
  std::vector<int32_t>
      token_types;  // 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // of BPE: "left right"
  std::optional<base::TokenId> bos_token_id, eos_token_id, unknown_token_id;
  std::optional<bool> add_bos_token, add_eos_token, add_space_prefix;
  std::optional<bool> remove_extra_whitespaces;  // "t5" only
  std::string precompiled_charsmap;              // "t5" only
  std::vector<base::TokenId> control_token_ids;  // special whatever their type says
  uint32_t max_tokens = UINT32_MAX;              // as in TokenizerSettings
};

// What a checkpoint says of its tokenizer beside the definition itself.
struct TokenizerSettings {
  std::optional<bool> add_bos, add_eos;  // around raw texts; unset: as the definition does
  std::string bos{}, eos{};              // the texts of these tokens, empty where unknown
  std::vector<std::string> control_texts{};  // tokens that are special whatever the definition says
  uint32_t max_tokens = UINT32_MAX;        // ids from here on, which the model lacks, are forgotten
};

// When to stop encoding early. A caller that has room for N ids asks for N + 1: more than N in the
// result means that the text does not fit.
struct EncodeLimits {
  // No more ids than this are returned; work ends soon after so many are out.
  size_t max_ids = SIZE_MAX;
  // Asked at least every few milliseconds, from the thread that encodes; true ends the work, and what
  // is returned then is of no use. May be empty. Must not throw.
  std::function<bool()> cancelled{};
};

struct EncodeOptions {
  bool add_special_tokens = true;  // BOS (rarely EOS), where the definition adds it
  bool parse_special = false;      // special tokens spelled out in the text become those tokens
  EncodeLimits limits{};
};

// A part of a text whose parts are trusted differently.
struct TextSegment {
  std::string_view text;
  bool parse_special = false;
};

// What decoding takes away from the two ends of a text (SentencePiece puts a space at its beginning
// when it encodes).
struct TextEnds {
  std::string character = " ";
  uint32_t at_start = 0;  // so many of it, as far as they are there
  uint32_t at_end = 0;
};

// Immutable; thread safe.
class Tokenizer {
 public:
  // From the text of a tokenizer.json: BPE, Unigram, WordPiece and WordLevel models.
  // Errors: InvalidArgument that names what is malformed or unsupported.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromJson(
      std::string_view json, const TokenizerSettings& settings = {});
  // Errors: InvalidArgument; for an unknown `pre` it names it and lists the known ones.
  static absl::StatusOr<std::shared_ptr<const Tokenizer>> FromGguf(
      const GgufVocabulary& vocabulary);

  virtual ~Tokenizer() = default;

  // Any bytes; each maximal ill-formed part of UTF-8 is read as U+FFFD. O(n log n).
  std::vector<base::TokenId> Encode(std::string_view text, const EncodeOptions& options) const;
  // The segments joined, encoded as one text, except that special tokens are recognised only where
  // all their bytes lie in segments that allow it. (Other added tokens are recognised everywhere,
  // as always.)
  std::vector<base::TokenId> EncodeSegments(absl::Span<const TextSegment> segments,
                                            bool add_special_tokens,
                                            const EncodeLimits& limits = {}) const;

  // The text of a sequence of tokens by itself, valid UTF-8: see TokenDecoder (text_stream.h).
  // Special tokens appear by their name or not at all.
  std::string Decode(absl::Span<const base::TokenId> ids, bool skip_special) const;

  // The token's own bytes as they appear inside a text (not always UTF-8). Special tokens: their
  // name. Requires: id < size(). The view lives as long as the tokenizer.
  virtual std::string_view Piece(base::TokenId id) const = 0;
  // Control tokens, which have no text of their own. Requires: id < size().
  virtual bool IsSpecial(base::TokenId id) const = 0;
  // Ids are below this. A model may have more (padding of its matrices): such ids have no text.
  virtual uint32_t size() const = 0;
  // The token that begins a text. GGUF: as the file says. JSON: the first token that encoding adds,
  // if it adds any.
  virtual std::optional<base::TokenId> bos_token_id() const = 0;
  // Whether encoding puts the BOS token before a text.
  virtual bool adds_bos() const = 0;
  virtual TextEnds text_ends() const { return {}; }
  // The bytes of a token that is the first of its text. Requires: id < size().
  virtual std::string FirstPiece(base::TokenId id) const { return std::string(Piece(id)); }

 private:
  // EncodeSegments; may return more than limits.max_ids.
  virtual std::vector<base::TokenId> DoEncode(absl::Span<const TextSegment> segments,
                                              bool add_special_tokens,
                                              const EncodeLimits& limits) const = 0;
};

}  // namespace ebbinghaus::text
