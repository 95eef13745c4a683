// What a tokenizer definition does to a text before it is cut.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/text/charsmap.h"
#include "server/text/pretokenizer_regex.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {

// A text, and for each of its bytes whether special tokens may be recognised there. When `marks` is
// empty the answer is the same everywhere: `all`.
struct MarkedText {
  std::string text;
  std::string marks;  // as long as text, 1 or 0 each
  bool all = false;

  // Whether special tokens may be recognised in all of [begin, end).
  bool Allowed(size_t begin, size_t end) const;
  MarkedText Part(size_t begin, size_t end) const;
};

struct PrependNormalizer {
  std::string prefix;  // put before a text that is not empty
};
struct ReplaceNormalizer {
  std::variant<std::string, Regex> pattern;
  std::string content;
};
struct TrimNormalizer {
  bool left = true;  // white space there is dropped
  bool right = true;
};
// Steps that look at one character at a time.
enum class CharacterNormalizer {
  kLowercase,
  kStripMarks,            // general category M
  kStripNonspacingMarks,  // general category Mn
  kNmt,                   // control characters dropped, rare spaces made plain
  kBertClean,             // the same, as BERT does it
  kBertHan,               // spaces around ideographs
  kByteLevel,             // GPT-2's byte alphabet
};
// The replacements of a Charsmap: for each user-perceived character or else each code point of it,
// as the `tokenizers` library does it.
struct CharsmapNormalizer {
  std::shared_ptr<const Charsmap> map;
};
// Source: SentencePiece's normalizer as llama.cpp reads it from GGUF files. Spaces become U+2581.
struct SentencePieceNormalizer {
  std::shared_ptr<const Charsmap> map;  // may be null
  bool add_prefix = true;               // a space before the text
  bool merge_spaces = true;             // one for several, and none at the end
};
using NormalizerStep =
    std::variant<NormalizationForm, PrependNormalizer, ReplaceNormalizer, TrimNormalizer,
                 CharacterNormalizer, CharsmapNormalizer, SentencePieceNormalizer>;

// Immutable; thread safe.
class Normalizer {
 public:
  Normalizer() = default;  // changes nothing
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}

  // A byte that comes from several is marked only if all of those are. Requires: valid UTF-8.
  MarkedText Run(MarkedText text) const;
  std::string Run(std::string_view text) const {
    return Run(MarkedText{std::string(text), "", false}).text;
  }

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace ebbinghaus::text
