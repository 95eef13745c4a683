// The form of the file that --config names.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ebbinghaus {

struct ConfigLine {
  int number = 0;  // from 1
  // nullopt: not a line of the form below, which `problem` says.
  std::optional<std::pair<std::string, std::string>> setting;
  std::string problem;
};

// The lines of `text` that set something, or try to. A line is `key: value` or `key = value`. `#` starts a comment at the
// start of a line or after a blank, but not within quotes. A value in double or single quotes is taken as it is, only
// that the quote itself is written twice in it; nothing but a comment may follow. Blanks around keys and values, a byte
// order mark at the start and carriage returns at line ends do not count.
std::vector<ConfigLine> ParseConfigText(absl::string_view text);

// `value` as ParseConfigText takes it, in quotes where it needs them. Requires: no line end in `value`.
std::string ConfigValue(absl::string_view value);

}  // namespace ebbinghaus
