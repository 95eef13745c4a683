// What Python's string methods and jinja2's text filters share. Results keep their bytes' marks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jinja/budget.h"
#include "server/jinja/text.h"
#include "server/jinja/value.h"

namespace ebbinghaus::jinja {

// Without white space at the ends (`characters` null) or without those characters.
Text Strip(const Text& text, const Text* characters, bool left, bool right);
absl::StatusOr<Text> Replace(const Text& text, const Text& from, const Text& to, int64_t most, Budget& budget);
// `most` < 0: all. `separator` null: runs of white space.
absl::StatusOr<std::vector<Text>> Split(const Text& text, const Text* separator, int64_t most, bool from_right, Budget& budget);
std::vector<Text> SplitLines(const Text& text, bool keep_ends, Budget& budget);
absl::StatusOr<Text> Repeated(const Text& text, int64_t times, Budget& budget);
enum class Side { kLeft, kRight, kBoth };
// Padding where `side` says, up to `width` characters. Requires: `fill` is one character.
absl::StatusOr<Text> Padded(const Text& text, int64_t width, const Text& fill, Side side, Budget& budget);
// Value::Of(list) of texts.
Value ListOf(std::vector<Text> texts);

// Python's int(text, base) and float(text). Nothing where Python raises ValueError. Errors:
// InvalidArgument for an integer beyond 64 bits.
absl::StatusOr<std::optional<int64_t>> ParseInteger(const std::string& text, int64_t base);
std::optional<double> ParseReal(const std::string& text);
// int(value) of a finite float. Errors: InvalidArgument beyond 64 bits.
absl::StatusOr<int64_t> Truncated(double value);
// `digits` behind the point, as '%.Nf'.
std::string Fixed(double value, int digits);

}  // namespace ebbinghaus::jinja
