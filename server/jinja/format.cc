// Python's two ways to format: "%s" % x and "{}".format(x).
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/markup.h"
#include "server/jinja/printing.h"
#include "server/jinja/strings.h"

namespace ebbinghaus::jinja {
namespace {

constexpr int64_t kMaxWidth = 1 << 20;

// What a format asks of a number or a text.
struct Spec {
  Text fill{" "};
  char align = 0;  // < > ^ =
  char sign = '-';
  bool alternate = false, zero = false;
  char group = 0;  // , or _
  int64_t width = 0;
  std::optional<int64_t> precision;
  char type = 0;
};

std::string Grouped(const std::string& digits, char group, size_t every) {
  if (group == 0) return digits;
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % every == 0) out += group;
    out += digits[i];
  }
  return out;
}

// 1e5 as Python writes it, from C's: both have two digits of exponent at least.
std::string RealDigits(double value, char type, int64_t precision, bool alternate) {
  if (!std::isfinite(value)) {
    const bool upper = type == 'F' || type == 'E' || type == 'G';
    if (std::isnan(value)) return upper ? "NAN" : "nan";
    return upper ? "INF" : "inf";
  }
  const std::string form = absl::StrCat("%", alternate ? "#" : "", ".*", std::string(1, type));
  char small[64];
  const int size = std::snprintf(small, sizeof small, form.c_str(), static_cast<int>(precision), value);
  if (size < static_cast<int>(sizeof small)) return small;
  std::string text(static_cast<size_t>(size) + 1, '\0');
  std::snprintf(text.data(), text.size(), form.c_str(), static_cast<int>(precision), value);
  text.pop_back();
  return text;
}

std::string IntegerDigits(uint64_t n, char type) {
  const unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
  // A pointer: of the chosen array itself GCC 12 reads a wrong element under the undefined-behaviour sanitizer.
  const char* const digits = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out += digits[n % base];
    n /= base;
  } while (n != 0);
  std::reverse(out.begin(), out.end());
  return out;
}

// Sign, prefix and digits, padded.
absl::StatusOr<Text> PlacedNumber(const Spec& spec, bool negative, std::string prefix, const std::string& digits, Budget& budget) {
  std::string sign = negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  sign += prefix;
  const char align = spec.align ? spec.align : spec.zero ? '=' : '>';
  const Text fill = spec.zero && !spec.align ? Text("0") : spec.fill;
  if (align == '=') {
    EBB_ASSIGN_OR_RETURN(const Text rest, Padded(Text(digits), spec.width - static_cast<int64_t>(sign.size()), fill, Side::kLeft, budget));
    Text out(sign);
    out.Append(rest);
    return out;
  }
  const Text whole(sign + digits);
  if (align == '^') {
    const int64_t missing = spec.width - static_cast<int64_t>(whole.size());
    EBB_ASSIGN_OR_RETURN(Text left, Padded(whole, spec.width - (missing > 0 ? (missing + 1) / 2 : 0), fill, Side::kLeft, budget));
    return Padded(left, spec.width, fill, Side::kRight, budget);
  }
  return Padded(whole, spec.width, fill, align == '<' ? Side::kRight : Side::kLeft, budget);
}

absl::StatusOr<Text> FormatReal(const Spec& spec, double value, Budget& budget) {
  if (spec.precision.value_or(0) > 1000) return Refused("a precision above 1000 is not supported");
  const double size = std::abs(value);
  const bool negative = std::signbit(value) && !std::isnan(value);
  std::string digits, suffix;
  if (spec.type == 0 && !spec.precision) {
    digits = FloatText(size);
  } else if (spec.type == 0) {  // as 'g', with one digit behind the point at least
    digits = RealDigits(size, 'g', std::max<int64_t>(1, *spec.precision), spec.alternate);
    const bool bare = digits.find_first_of(".en") == digits.npos;
    if (bare && std::isfinite(value)) {
      if (static_cast<int64_t>(digits.size()) >= *spec.precision) return Refused("this form of a float is not supported");
      digits += ".0";
    }
  } else if (spec.type == '%') {
    digits = RealDigits(size * 100, 'f', spec.precision.value_or(6), spec.alternate);
    suffix = "%";
  } else {
    const char type = spec.type == 'n' ? 'g' : spec.type;
    digits = RealDigits(size, type, spec.precision.value_or(6), spec.alternate);
  }
  const size_t point = std::min(digits.find_first_of(".eE"), digits.size());
  if (std::isfinite(value)) digits = Grouped(digits.substr(0, point), spec.group, 3) + digits.substr(point);
  if (spec.group != 0 && spec.zero) return Refused("grouping with zero padding is not supported");
  return PlacedNumber(spec, negative, "", digits + suffix, budget);
}

absl::StatusOr<Text> FormatInteger(const Spec& spec, int64_t value, Budget& budget) {
  if (std::string_view("eEfFgG%").find(spec.type) != std::string_view::npos && spec.type != 0) return FormatReal(spec, static_cast<double>(value), budget);
  if (spec.precision) return Refused("precision not allowed in integer format specifier");
  if (spec.group != 0 && spec.zero) return Refused("grouping with zero padding is not supported");
  const uint64_t size = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const char type = spec.type == 0 || spec.type == 'n' ? 'd' : spec.type;
  if (std::string_view("dxXob").find(type) == std::string_view::npos) return Refused("unknown format code for an integer");
  if (spec.group == ',' && type != 'd') return Refused("cannot specify ',' with this format code");
  const std::string prefix = spec.alternate && type != 'd' ? std::string{'0', type} : "";
  return PlacedNumber(spec, value < 0, prefix, Grouped(IntegerDigits(size, type), spec.group, type == 'd' ? 3 : 4), budget);
}

absl::StatusOr<Text> FormatText(const Spec& spec, Text text, Budget& budget) {
  if ((spec.type != 0 && spec.type != 's') || spec.align == '=' || spec.group || spec.alternate || spec.sign != '-') {
    return Refused("a format that does not fit a string");
  }
  const CodePoints points(text.bytes());
  if (spec.precision && *spec.precision < static_cast<int64_t>(points.count())) text = text.Slice(0, points.offset(static_cast<size_t>(*spec.precision)));
  const Text fill = spec.zero && !spec.align ? Text("0") : spec.fill;
  if (spec.align == '^') {
    const int64_t missing = spec.width - static_cast<int64_t>(CodePoints(text.bytes()).count());
    EBB_ASSIGN_OR_RETURN(Text left, Padded(text, spec.width - (missing > 0 ? (missing + 1) / 2 : 0), fill, Side::kLeft, budget));
    return Padded(left, spec.width, fill, Side::kRight, budget);
  }
  return Padded(text, spec.width, fill, spec.align == '>' ? Side::kLeft : Side::kRight, budget);
}

absl::StatusOr<int64_t> TakeNumber(std::string_view s, size_t& at) {
  int64_t n = 0;
  while (at < s.size() && s[at] >= '0' && s[at] <= '9') {
    n = n * 10 + (s[at++] - '0');
    if (n > kMaxWidth) return Refused("a width or precision that is too large");
  }
  return n;
}

absl::StatusOr<Spec> ParseSpec(const Text& text) {
  Spec spec;
  const std::string& s = text.bytes();
  size_t at = 0, second = 0;
  const auto is_align = [&](size_t i) { return i < s.size() && std::string_view("<>^=").find(s[i]) != std::string_view::npos; };
  if (!s.empty()) DecodeAt(s, &second);
  if (!s.empty() && is_align(second)) {
    spec.fill = text.Slice(0, second);
    spec.align = s[second];
    at = second + 1;
  } else if (is_align(0)) {
    spec.align = s[at++];
  }
  const auto take = [&](std::string_view any) { return at < s.size() && any.find(s[at]) != any.npos ? s[at++] : '\0'; };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != 0;
  spec.zero = take("0") != 0;
  EBB_ASSIGN_OR_RETURN(spec.width, TakeNumber(s, at));
  spec.group = take(",_");
  if (take(".")) {
    if (at >= s.size() || s[at] < '0' || s[at] > '9') return Refused("format specifier missing precision");
    EBB_ASSIGN_OR_RETURN(spec.precision, TakeNumber(s, at));
  }
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size() || (spec.type != 0 && std::string_view("bcdeEfFgGnosxX%").find(spec.type) == std::string_view::npos)) return Refused("invalid format specifier");
  return spec;
}

absl::StatusOr<Text> FormatValue(const Value& value, const Text& form, Runtime& runtime) {
  if (form.empty()) return Str(value, runtime.budget);
  EBB_ASSIGN_OR_RETURN(const Spec spec, ParseSpec(form));
  if (value.text()) return FormatText(spec, value.text()->WithMarkup(false), runtime.budget);
  if (!value.number()) {
    if (value.undefined()) return Refused("unsupported format string passed to Undefined");
    return Refused(absl::StrCat("unsupported format string passed to ", value.TypeName()));
  }
  if (spec.type == 's' || spec.type == 'c') return Refused("unknown format code for a number");
  if (value.As<bool>() && spec.type == 0 && !spec.precision) {
    return Refused("this format of a boolean is not supported");
  }
  if (value.integral()) return FormatInteger(spec, value.integer(), runtime.budget);
  if (std::string_view("bdoxX").find(spec.type) != std::string_view::npos && spec.type != 0) return Refused("unknown format code for a float");
  return FormatReal(spec, value.real(), runtime.budget);
}

class BraceFormatter {
 public:
  BraceFormatter(const Arguments& arguments, Runtime& runtime) : arguments_(arguments), runtime_(runtime) {}

  absl::StatusOr<Text> Format(const Text& form, int depth) {
    if (depth > 2) return Refused("format: nested too deeply");
    Text out;
    const std::string& s = form.bytes();
    for (size_t at = 0; at < s.size();) {
      const size_t brace = std::min(s.find_first_of("{}", at), s.size());
      out.Append(form, at, brace);
      at = brace;
      if (at == s.size()) break;
      if (at + 1 < s.size() && s[at + 1] == s[at]) {
        out.Append(form, at, at + 1);
        at += 2;
        continue;
      }
      if (s[at] == '}') return Refused("format: single '}' encountered in format string");
      size_t end = at + 1;
      for (int open = 1; open > 0; ++end) {
        if (end >= s.size()) return Refused("format: expected '}' before end of string");
        open += s[end] == '{' ? 1 : s[end] == '}' ? -1 : 0;
      }
      EBB_ASSIGN_OR_RETURN(const Text field, Field(form.Slice(at + 1, end - 1), depth));
      if (!runtime_.budget.SpendText(out.size() + field.size() > Budget::kMaxText ? Budget::kMaxText + 1 : field.size())) return runtime_.budget.status();
      out.Append(field);
      at = end;
    }
    return out;
  }

 private:
  absl::StatusOr<Text> Field(const Text& field, int depth) {
    const std::string& s = field.bytes();
    size_t bracket = 0, end = 0;
    for (; end < s.size() && (bracket > 0 || (s[end] != '!' && s[end] != ':')); ++end) {
      bracket += s[end] == '[' ? 1 : 0;
      bracket -= s[end] == ']' && bracket > 0 ? 1 : 0;
    }
    EBB_ASSIGN_OR_RETURN(Value value, Look(field.Slice(0, end)));
    char conversion = 0;
    if (end < s.size() && s[end] == '!') {
      if (end + 1 >= s.size() || (end + 2 < s.size() && s[end + 2] != ':')) return Refused("format: malformed conversion");
      conversion = s[end + 1];
      end += 2;
    }
    EBB_ASSIGN_OR_RETURN(const Text form, Format(end < s.size() ? field.Slice(end + 1, s.size()) : Text(), depth + 1));
    if (conversion == 's') {
      EBB_ASSIGN_OR_RETURN(Text text, Str(value, runtime_.budget));
      value = Value(std::move(text));
    } else if (conversion == 'r' || conversion == 'a') {
      EBB_ASSIGN_OR_RETURN(Text text, Repr(value, runtime_.budget));
      value = Value(conversion == 'a' ? Ascii(text) : std::move(text));
    } else if (conversion != 0) {
      return Refused("format: unknown conversion specifier");
    }
    return FormatValue(value, form, runtime_);
  }

  absl::StatusOr<Value> Look(const Text& name) {
    const std::string& s = name.bytes();
    size_t at = std::min(s.find_first_of(".["), s.size());
    EBB_ASSIGN_OR_RETURN(Value value, First(s.substr(0, at)));
    while (at < s.size()) {
      const bool attribute = s[at] == '.';
      const size_t end = attribute ? std::min(s.find_first_of(".[", at + 1), s.size()) : s.find(']', at);
      if (end == s.npos || end == at + 1) return Refused("format: malformed field name");
      const Text part = name.Slice(at + 1, end).WithMarkup(false);
      const bool digits = std::all_of(part.bytes().begin(), part.bytes().end(), [](char c) { return c >= '0' && c <= '9'; });
      if (attribute) {
        EBB_ASSIGN_OR_RETURN(value, Attribute(value, part, runtime_));
      } else {
        EBB_ASSIGN_OR_RETURN(value, Item(value, digits && part.size() < 19 ? Value(static_cast<int64_t>(std::stoll(part.bytes()))) : Value(part), runtime_));
      }
      at = end + (attribute ? 0 : 1);
      if (!attribute && at < s.size() && s[at] != '.' && s[at] != '[') return Refused("format: malformed field name");
    }
    return value;
  }

  absl::StatusOr<Value> First(const std::string& name) {
    const bool digits = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (name.empty() || digits) {
      if (numbered_ && *numbered_ != digits) return Refused("format: cannot mix automatic and manual field numbering");
      numbered_ = digits;
      const size_t index = name.empty() ? automatic_++ : name.size() < 9 ? static_cast<size_t>(std::stoul(name)) : SIZE_MAX;
      if (index >= arguments_.positional.size()) return Refused("format: replacement index out of range");
      return arguments_.positional[index];
    }
    for (const auto& [known, value] : arguments_.named) {
      if (known == name) return value;
    }
    return Refused("format: a field of unknown name");
  }

  const Arguments& arguments_;
  Runtime& runtime_;
  std::optional<bool> numbered_;
  size_t automatic_ = 0;
};

class PercentFormatter {
 public:
  PercentFormatter(const Text& form, const Value& values, Runtime& runtime)
      : form_(form), s_(form.bytes()), values_(values), runtime_(runtime) {}

  absl::StatusOr<Text> Run() {
    Text out = Text().WithMarkup(form_.markup());
    while (at_ < s_.size()) {
      const size_t percent = std::min(s_.find('%', at_), s_.size());
      out.Append(form_, at_, percent);
      at_ = percent;
      if (at_ == s_.size()) break;
      ++at_;
      EBB_ASSIGN_OR_RETURN(const Text piece, Conversion());
      if (!runtime_.budget.SpendText(out.size() + piece.size() > Budget::kMaxText ? Budget::kMaxText + 1 : piece.size())) return runtime_.budget.status();
      out.Append(piece);
    }
    const bool one = !values_.tuple() && !values_.dict() && !values_.list();
    if ((values_.tuple() && used_ < values_.tuple()->size()) || (one && used_ == 0)) return Refused("not all arguments converted during string formatting");
    return out;
  }

 private:
  absl::StatusOr<Value> Next() {
    if (values_.tuple()) {
      if (used_ >= values_.tuple()->size()) return Refused("not enough arguments for format string");
      return (*values_.tuple())[used_++];
    }
    if (used_++ > 0) return Refused("not enough arguments for format string");
    return values_;
  }

  absl::StatusOr<std::optional<int64_t>> Number() {
    if (at_ < s_.size() && s_[at_] == '*') {
      ++at_;
      EBB_ASSIGN_OR_RETURN(const Value value, Next());
      EBB_ASSIGN_OR_RETURN(const int64_t n, IntegerArgument(value, "*"));
      if (n > kMaxWidth || n < -kMaxWidth) return Refused("a width or precision that is too large");
      return n;
    }
    if (at_ >= s_.size() || s_[at_] < '0' || s_[at_] > '9') return std::nullopt;
    EBB_ASSIGN_OR_RETURN(const int64_t n, TakeNumber(s_, at_));
    return n;
  }

  absl::StatusOr<Text> Conversion() {
    std::optional<Value> keyed;
    if (at_ < s_.size() && s_[at_] == '(') {
      const size_t end = s_.find(')', at_);
      if (end == s_.npos) return Refused("incomplete format key");
      if (!values_.dict()) return Refused("format requires a mapping");
      const Value* value = values_.dict()->Find(s_.substr(at_ + 1, end - at_ - 1));
      if (value == nullptr) return Refused("format: a key of unknown name");
      keyed = *value;
      ++used_;
      at_ = end + 1;
    }
    Spec spec;
    bool left = false;
    for (; at_ < s_.size() && std::string_view("-+ #0").find(s_[at_]) != std::string_view::npos; ++at_) {
      if (s_[at_] == '-') left = true;
      if (s_[at_] == '+' || (s_[at_] == ' ' && spec.sign != '+')) spec.sign = s_[at_];
      spec.alternate = spec.alternate || s_[at_] == '#';
      spec.zero = spec.zero || s_[at_] == '0';
    }
    EBB_ASSIGN_OR_RETURN(const std::optional<int64_t> width, Number());
    spec.width = std::abs(width.value_or(0));
    if (left || width.value_or(0) < 0) spec.align = '<', spec.zero = false;
    if (at_ < s_.size() && s_[at_] == '.') {
      ++at_;
      EBB_ASSIGN_OR_RETURN(const std::optional<int64_t> precision, Number());
      spec.precision = std::max<int64_t>(precision.value_or(0), 0);
    }
    while (at_ < s_.size() && std::string_view("hlL").find(s_[at_]) != std::string_view::npos) ++at_;
    if (at_ >= s_.size()) return Refused("incomplete format");
    spec.type = s_[at_++];
    if (spec.type == '%') return Text("%");
    Value value;
    if (keyed) {
      value = *keyed;
    } else {
      EBB_ASSIGN_OR_RETURN(value, Next());
    }
    return One(spec, value);
  }

  absl::StatusOr<Text> One(Spec spec, const Value& value) {
    Budget& budget = runtime_.budget;
    if (std::string_view("sra").find(spec.type) != std::string_view::npos) {
      Text text;
      if (form_.markup() && spec.type != 's') return Refused("this format of markup is not supported");
      if (form_.markup() && value.text()) {
        text = Escape(*value.text());
      } else {
        EBB_ASSIGN_OR_RETURN(text, spec.type == 's' ? Str(value, budget) : Repr(value, budget));
        if (form_.markup()) text = Escape(text);
      }
      if (spec.type == 'a') text = Ascii(text);
      spec.type = 0;
      spec.sign = '-';
      spec.zero = spec.alternate = false;
      if (spec.align == 0) spec.align = '>';
      return FormatText(spec, std::move(text), budget);
    }
    if (spec.type == 'c') {
      Text text;
      if (value.text() && CodePoints(value.text()->bytes()).count() == 1) {
        text = *value.text();
      } else {
        EBB_ASSIGN_OR_RETURN(const int64_t c, IntegerArgument(value, "%c"));
        if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return Refused("%c arg not in range");
        std::string bytes;
        AppendCodePoint(static_cast<char32_t>(c), bytes);
        // A number may be a caller's, and so may then the character.
        text = Text(bytes, /*from_caller=*/true);
      }
      Spec plain;
      plain.width = spec.width;
      plain.align = spec.align ? spec.align : '>';
      return FormatText(plain, text, budget);
    }
    if (!value.number()) return Refused(absl::StrCat("%", std::string(1, spec.type), " format: a number is required, not ", value.TypeName()));
    if (std::string_view("diu").find(spec.type) != std::string_view::npos) {
      EBB_ASSIGN_OR_RETURN(const int64_t n, value.integral() ? absl::StatusOr<int64_t>(value.integer()) : Truncated(value.real()));
      return Whole(spec, n, 'd');
    }
    if (std::string_view("xXo").find(spec.type) != std::string_view::npos) {
      if (!value.integral()) return Refused("an integer is required");
      return Whole(spec, value.integer(), spec.type);
    }
    if (std::string_view("eEfFgG").find(spec.type) == std::string_view::npos) return Refused("unsupported format character");
    return FormatReal(spec, value.real(), budget);
  }

  absl::StatusOr<Text> Whole(const Spec& spec, int64_t n, char type) {
    const uint64_t size = n < 0 ? 0 - static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
    std::string digits = IntegerDigits(size, type);
    const auto least = static_cast<size_t>(spec.precision.value_or(0));
    if (digits.size() < least) digits.insert(0, least - digits.size(), '0');
    return PlacedNumber(spec, n < 0, spec.alternate && type != 'd' ? std::string{'0', type} : "", digits, runtime_.budget);
  }

  const Text& form_;
  const std::string& s_;
  const Value& values_;
  Runtime& runtime_;
  size_t at_ = 0, used_ = 0;
};

}  // namespace

absl::StatusOr<Text> FormatBraces(const Text& form, const Arguments& arguments, Runtime& runtime) {
  return BraceFormatter(arguments, runtime).Format(form, 0);
}

absl::StatusOr<Text> FormatPercent(const Text& form, const Value& values, Runtime& runtime) {
  return PercentFormatter(form, values, runtime).Run();
}

}  // namespace ebbinghaus::jinja
