// Cuts normalized text into the pieces that are tokenized one by one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/text/encode_stop.h"
#include "server/text/pretokenizer_regex.h"

namespace ebbinghaus::text {

// What becomes of the matches of a split.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitStep {
  std::variant<std::string, Regex> pattern;  // a string stands for itself
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the pieces between the matches are what the behavior applies to
};

struct DigitsStep {
  bool individual = false;  // each numeric character by itself, or runs of them
};

struct PunctuationStep {
  SplitBehavior behavior = SplitBehavior::kIsolated;
};

struct WhitespaceStep {};  // white space is dropped

struct ScriptsStep {};  // cut where the script changes

struct FixedLengthStep {
  size_t characters = 1;
};

struct MetaspaceStep {
  enum class Prepend { kAlways, kFirst, kNever };
  std::string replacement = "\u2581";  // takes the place of every space
  Prepend prepend = Prepend::kAlways;
  bool split = true;
};

// The step that turns text into GPT-2's byte alphabet; here pieces stay bytes, so what is left of
// it is the prefix. Its regular expression is a SplitStep of its own.
struct PrefixSpaceStep {};

// Pieces in GPT-2's byte alphabet, where later steps or the model want to see it.
struct SpellBytesStep {};

using PreTokenizerStep =
    std::variant<SplitStep, DigitsStep, PunctuationStep, WhitespaceStep, ScriptsStep,
                 FixedLengthStep, MetaspaceStep, PrefixSpaceStep, SpellBytesStep>;

// A text and its pieces, in order. Pieces do not overlap; what no piece covers is dropped.
struct PreTokenizedText {
  std::string text;
  std::vector<TextRange> pieces;
};

// Immutable; thread safe.
class PreTokenizer {
 public:
  PreTokenizer() = default;  // one piece
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  // `at_start`: whether `text` is the beginning of what the caller tokenizes
  // (MetaspaceStep::Prepend::kFirst). Empty pieces are left out. Any pieces once `stop` has
  // cancelled. Requires: valid UTF-8.
  PreTokenizedText Run(std::string text, bool at_start, EncodeStop& stop) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

}  // namespace ebbinghaus::text
