#include "server/configuration_file.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace ebbinghaus {
namespace {

constexpr absl::string_view kByteOrderMark = "\xef\xbb\xbf";

bool IsBlank(char c) { return c == ' ' || c == '\t'; }
bool IsQuote(char c) { return c == '"' || c == '\''; }

// Without a comment after a blank.
absl::string_view StripComment(absl::string_view text) {
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '#' && IsBlank(text[i - 1])) return text.substr(0, i);
  }
  return text;
}

// Requires: `text` begins with a quote.
absl::StatusOr<std::string> QuotedValue(absl::string_view text) {
  const char quote = text[0];
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] != quote) {
      value += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == quote) {
      value += text[i++];
    } else {
      const absl::string_view rest = text.substr(i + 1);
      if (absl::StripAsciiWhitespace(StripComment(rest)).empty()) return value;
      return absl::InvalidArgumentError(absl::StrCat(
          "text follows the closing quote; a quote within the value is written twice: ", std::string(2, quote)));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("the closing quote ", std::string(1, quote), " is missing"));
}

// `text`: what stands behind the separator.
absl::StatusOr<std::string> Value(absl::string_view text) {
  const absl::string_view stripped = absl::StripLeadingAsciiWhitespace(text);
  if (!stripped.empty() && IsQuote(stripped[0])) return QuotedValue(stripped);
  return std::string(absl::StripAsciiWhitespace(StripComment(text)));
}

}  // namespace

std::vector<ConfigLine> ParseConfigText(absl::string_view text) {
  absl::ConsumePrefix(&text, kByteOrderMark);
  std::vector<ConfigLine> lines;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    ConfigLine& parsed = lines.emplace_back();
    parsed.number = number;
    const size_t separator = StripComment(line).find_first_of(":=");
    if (separator == line.npos) {
      parsed.problem = "expected `key: value` or `key = value`";
      continue;
    }
    const std::string name(absl::StripAsciiWhitespace(line.substr(0, separator)));
    absl::StatusOr<std::string> value = Value(line.substr(separator + 1));
    if (value.ok()) {
      parsed.setting = {name, *std::move(value)};
    } else {
      parsed.problem = absl::StrCat(name, ": ", value.status().message());
    }
  }
  return lines;
}

std::string ConfigValue(absl::string_view value) {
  const auto plain = [](char c) { return absl::ascii_isalnum(c) || absl::StrContains("_-./:@%+,|[]", c); };
  if (!value.empty() && std::all_of(value.begin(), value.end(), plain)) return std::string(value);
  return absl::StrCat("\"", absl::StrReplaceAll(value, {{"\"", "\"\""}}), "\"");
}

}  // namespace ebbinghaus
