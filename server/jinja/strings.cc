#include "server/jinja/strings.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <utility>

#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"

namespace ebbinghaus::jinja {
namespace {

// The end of the character that begins at `at`; whether it is white space.
bool SpaceAt(std::string_view s, size_t at, size_t* end) {
  *end = at;
  return IsSpace(DecodeAt(s, end));
}

size_t LastBegin(std::string_view s, size_t end) {
  size_t last = end - 1;
  while (last > 0 && (static_cast<unsigned char>(s[last]) & 0xc0) == 0x80) --last;
  return last;
}

absl::StatusOr<std::vector<Text>> SplitSpaces(const Text& text, int64_t most, Budget& budget) {
  std::vector<Text> parts;
  const std::string& s = text.bytes();
  size_t at = 0, end = 0;
  while (true) {
    while (at < s.size() && SpaceAt(s, at, &end)) at = end;
    if (at == s.size()) return parts;
    if (!budget.SpendItems(1)) return budget.status();
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(text.Slice(at, s.size()));
      return parts;
    }
    const size_t begin = at;
    while (at < s.size() && !SpaceAt(s, at, &end)) at = end;
    parts.push_back(text.Slice(begin, at));
  }
}

absl::StatusOr<std::vector<Text>> SplitSpacesRight(const Text& text, int64_t most, Budget& budget) {
  std::vector<Text> parts;
  const std::string& s = text.bytes();
  size_t at = s.size(), end = 0;
  while (true) {
    while (at > 0 && SpaceAt(s, LastBegin(s, at), &end)) at = LastBegin(s, at);
    if (at == 0) break;
    if (!budget.SpendItems(1)) return budget.status();
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(text.Slice(0, at));
      break;
    }
    const size_t stop = at;
    while (at > 0 && !SpaceAt(s, LastBegin(s, at), &end)) at = LastBegin(s, at);
    parts.push_back(text.Slice(at, stop));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

// Without blanks around and underscores between digits; nothing if they are elsewhere.
std::optional<std::string> Digits(const std::string& text) {
  std::string plain;
  const Text stripped = Strip(Text(text), nullptr, true, true);
  const std::string& s = stripped.bytes();
  for (size_t at = 0; at < s.size();) {
    const char32_t c = DecodeAt(s, &at);
    if (c == '_') {
      const bool between = !plain.empty() && std::isalnum(static_cast<unsigned char>(plain.back())) && at < s.size() && s[at] != '_';
      if (!between || !std::isalnum(static_cast<unsigned char>(s[at]))) return std::nullopt;
      continue;
    }
    const int32_t digit = c < 0x80 ? -1 : u_charDigitValue(static_cast<UChar32>(c));
    if (digit >= 0) plain += static_cast<char>('0' + digit);
    else if (c < 0x80) plain += static_cast<char>(c);
    else return std::nullopt;
  }
  return plain;
}

}  // namespace

Text Strip(const Text& text, const Text* characters, bool left, bool right) {
  std::set<char32_t> set;
  for (size_t at = 0; characters != nullptr && at < characters->size();) set.insert(DecodeAt(characters->bytes(), &at));
  const std::string& s = text.bytes();
  const auto drop = [&](size_t at, size_t* end) {
    *end = at;
    const char32_t c = DecodeAt(s, end);
    return characters == nullptr ? IsSpace(c) : set.count(c) != 0;
  };
  size_t begin = 0, end = s.size(), next = 0;
  while (left && begin < end && drop(begin, &next)) begin = next;
  while (right && end > begin && drop(LastBegin(s, end), &next)) end = LastBegin(s, end);
  return text.Slice(begin, end);
}

absl::StatusOr<Text> Replace(const Text& text, const Text& from, const Text& to, int64_t most, Budget& budget) {
  Text out = Text().WithMarkup(text.markup());
  const std::string& s = text.bytes();
  size_t at = 0;
  const auto put = [&](size_t end) {
    if (!budget.Spend() || out.size() + text.size() + to.size() > Budget::kMaxText) return budget.SpendText(Budget::kMaxText + 1);
    out.Append(text, at, end);
    out.Append(to);
    return budget.SpendText(end - at + to.size());
  };
  if (from.empty()) {  // between all characters
    for (size_t next = 0; most != 0; --most) {
      if (!put(next)) return budget.status();
      at = next;
      if (next == s.size()) break;
      DecodeAt(s, &next);
    }
  } else {
    for (size_t found; most != 0 && (found = FindIn(s, from.bytes(), at)) != s.npos; --most) {
      if (!put(found)) return budget.status();
      at = found + from.size();
    }
  }
  out.Append(text, at, s.size());
  if (!budget.SpendText(out.size())) return budget.status();
  return out;
}

absl::StatusOr<std::vector<Text>> Split(const Text& text, const Text* separator, int64_t most, bool from_right, Budget& budget) {
  if (!budget.SpendText(text.size())) return budget.status();
  if (separator == nullptr) return from_right ? SplitSpacesRight(text, most, budget) : SplitSpaces(text, most, budget);
  if (separator->empty()) return Refused("empty separator");
  const std::string &s = text.bytes(), &by = separator->bytes();
  std::vector<size_t> places;
  for (size_t found, at = 0; (found = FindIn(s, by, at)) != s.npos; at = found + by.size()) {
    if (!budget.SpendItems(1)) return budget.status();
    if (!from_right && most >= 0 && static_cast<int64_t>(places.size()) == most) break;
    places.push_back(found);
  }
  if (from_right && by.size() > 1) {  // overlapping places are taken from the right
    places.clear();
    for (size_t found, end = s.size(); end >= by.size() && (found = s.rfind(by, end - by.size())) != s.npos; end = found) {
      if (!budget.Spend()) return budget.status();
      if (most >= 0 && static_cast<int64_t>(places.size()) == most) break;
      places.push_back(found);
    }
    std::reverse(places.begin(), places.end());
  } else if (from_right && most >= 0 && places.size() > static_cast<size_t>(most)) {
    places.erase(places.begin(), places.end() - static_cast<std::ptrdiff_t>(most));
  }
  std::vector<Text> parts;
  size_t at = 0;
  for (const size_t place : places) {
    parts.push_back(text.Slice(at, place));
    at = place + by.size();
  }
  parts.push_back(text.Slice(at, s.size()));
  return parts;
}

std::vector<Text> SplitLines(const Text& text, bool keep_ends, Budget& budget) {
  std::vector<Text> lines;
  const std::string& s = text.bytes();
  if (!budget.SpendText(s.size())) return lines;
  for (size_t begin = 0, at = 0; begin < s.size();) {
    size_t stop = at;
    if (at == s.size()) {
      lines.push_back(text.Slice(begin, at));
      break;
    }
    if (!IsLineBreak(DecodeAt(s, &at))) continue;
    if (s[stop] == '\r' && at < s.size() && s[at] == '\n') ++at;
    if (!budget.SpendItems(1)) return lines;
    lines.push_back(text.Slice(begin, keep_ends ? at : stop));
    begin = at;
  }
  return lines;
}

absl::StatusOr<Text> Repeated(const Text& text, int64_t times, Budget& budget) {
  Text out;
  if (times <= 0 || text.empty()) return out;
  if (static_cast<uint64_t>(times) > Budget::kMaxText / text.size()) times = Budget::kMaxText + 1;
  if (!budget.SpendText(static_cast<size_t>(times) * text.size())) return budget.status();
  for (int64_t i = 0; i < times; ++i) out.Append(text);
  return out;
}

absl::StatusOr<Text> Padded(const Text& text, int64_t width, const Text& fill, Side side, Budget& budget) {
  const int64_t missing = width - static_cast<int64_t>(CodePoints(text.bytes()).count());
  if (missing <= 0) return text;
  int64_t left = side == Side::kLeft ? missing : 0;
  if (side == Side::kBoth) left = missing / 2 + (missing & width & 1);
  EBB_ASSIGN_OR_RETURN(const Text before, Repeated(fill, left, budget));
  EBB_ASSIGN_OR_RETURN(const Text after, Repeated(fill, missing - left, budget));
  Text out = Text().WithMarkup(text.markup());
  out.Append(before);
  out.Append(text);
  out.Append(after);
  return out;
}

Value ListOf(std::vector<Text> texts) {
  List list;
  for (Text& text : texts) list.push_back(Value(std::move(text)));
  return Value::Of(std::move(list));
}

absl::StatusOr<std::optional<int64_t>> ParseInteger(const std::string& text, int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  const std::optional<std::string> plain = Digits(text);
  if (!plain || plain->empty()) return std::nullopt;
  std::string_view s = *plain;
  const bool negative = s[0] == '-';
  if (s[0] == '-' || s[0] == '+') s.remove_prefix(1);
  const char mark = s.size() > 1 && s[0] == '0' ? static_cast<char>(s[1] | 0x20) : 0;
  const int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    s.remove_prefix(2);
    base = marked;
  } else if (base == 0) {
    base = 10;
    if (s.size() > 1 && s[0] == '0' && s.find_first_not_of('0') != s.npos) return std::nullopt;
  }
  if (s.empty()) return std::nullopt;
  __int128 value = 0;
  for (const char c : s) {
    const int digit = std::isdigit(static_cast<unsigned char>(c)) ? c - '0' : std::isalpha(static_cast<unsigned char>(c)) ? (c | 0x20) - 'a' + 10 : 99;
    if (digit >= base) return std::nullopt;
    if (value < static_cast<__int128>(1) << 64) value = value * base + digit;
  }
  if (negative) value = -value;
  if (value > INT64_MAX || value < INT64_MIN) return Refused("an integer beyond 64 bits is not supported");
  return static_cast<int64_t>(value);
}

std::optional<double> ParseReal(const std::string& text) {
  const std::optional<std::string> plain = Digits(text);
  if (!plain || plain->empty()) return std::nullopt;
  std::string lower = *plain;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const std::string_view word = std::string_view(lower).substr(lower[0] == '-' || lower[0] == '+');
  const bool named = word == "inf" || word == "infinity" || word == "nan";
  if (!named && lower.find_first_not_of("0123456789+-.e") != lower.npos) return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(lower.c_str(), &end);
  if (*end != 0) return std::nullopt;
  return value;
}

absl::StatusOr<int64_t> Truncated(double value) {
  if (!std::isfinite(value)) return Refused("cannot convert float infinity or NaN to integer");
  if (std::abs(value) >= 9223372036854775808.0) return Refused("an integer beyond 64 bits is not supported");
  return static_cast<int64_t>(value);
}

std::string Fixed(double value, int digits) {
  const int size = std::snprintf(nullptr, 0, "%.*f", digits, value);
  std::string text(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  text.pop_back();
  return text;
}

}  // namespace ebbinghaus::jinja
