// Regular expressions of tokenizer definitions. They are written for Oniguruma; PCRE2 runs them
// here.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/encode_stop.h"

namespace ebbinghaus::text {

struct TextRange {
  size_t begin = 0;  // bytes
  size_t end = 0;
};

// Immutable; thread safe.
class Regex {
 public:
  // Errors: InvalidArgument for a pattern that does not parse, or whose meaning would differ
  // between Oniguruma and PCRE2 (set operations, a plus after an interval, rare escapes).
  static absl::StatusOr<Regex> Compile(std::string_view pattern);

  // All matches from left to right, without overlap, appended to `out`. An expression that
  // backtracks beyond a limit proportional to the text finds nothing more from that place on, and
  // so does any once `stop` (may be null) has cancelled. Requires: valid UTF-8.
  void FindAll(std::string_view text, std::vector<TextRange>& out,
               EncodeStop* stop = nullptr) const;

 private:
  class Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

// The same expression in PCRE2's words; what Regex::Compile compiles. Errors: as there.
absl::StatusOr<std::string> TranslatePattern(std::string_view pattern);

}  // namespace ebbinghaus::text
