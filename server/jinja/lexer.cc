#include "server/jinja/lexer.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/text.h"

namespace ebbinghaus::jinja {

absl::Status TemplateError(uint32_t line, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("chat template, line ", line, ": ", std::string(what)));
}

namespace {

using Kind = Lexeme::Kind;

bool IsAsciiDigit(char c) { return c >= '0' && c <= '9'; }

// All line ends become \n, and the last one goes.
std::string Normalize(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      text += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      text += source[i];
    }
  }
  if (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// Digits with single underscores between them, from `at`; npos if there are none.
template <typename IsDigitOf>
size_t SkipDigits(std::string_view s, size_t at, IsDigitOf is_digit) {
  if (at >= s.size() || !is_digit(s[at])) return s.npos;
  while (at < s.size()) {
    if (is_digit(s[at])) ++at;
    else if (s[at] == '_' && at + 1 < s.size() && is_digit(s[at + 1])) ++at;
    else break;
  }
  return at;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(Normalize(source)) {}

  absl::StatusOr<std::vector<Lexeme>> Run() {
    while (at_ < source_.size()) EBB_RETURN_IF_ERROR(Root());
    Add(Kind::kEnd, "");
    return std::move(lexemes_);
  }

 private:
  void Add(Kind kind, std::string text) { lexemes_.push_back({kind, std::move(text), line_}); }
  void Advance(size_t to) {
    line_ += static_cast<uint32_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_), source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    at_ = to;
  }
  bool At(size_t i, std::string_view part) const { return source_.compare(i, part.size(), part) == 0; }
  size_t SkipSpace(size_t i) const {
    for (size_t next = i; next < source_.size(); i = next) {
      if (!IsSpace(DecodeAt(source_, &next))) return i;
    }
    return i;
  }

  // The end of "raw" or "endraw" with its blanks, from behind "{%" and its sign; npos if it is not.
  size_t SkipWord(size_t i, std::string_view word) const {
    i = SkipSpace(i);
    if (!At(i, word)) return source_.npos;
    return SkipSpace(i + word.size());
  }

  // Text up to a tag: `sign` and `lstrip` say what goes of its end.
  void AddText(size_t end, char sign, bool lstrip) {
    std::string_view text = std::string_view(source_).substr(at_, end - at_);
    if (sign == '-') {
      while (!text.empty()) {
        size_t last = text.size() - 1;
        while (last > 0 && (static_cast<unsigned char>(text[last]) & 0xc0) == 0x80) --last;
        size_t next = last;
        if (!IsSpace(DecodeAt(text, &next))) break;
        text = text.substr(0, last);
      }
    } else if (sign != '+' && lstrip) {
      const size_t line_begin = text.rfind('\n') + 1;  // npos + 1 is 0
      if ((line_begin > 0 || line_starting_) && line_begin < text.size() && BlankFrom(text, line_begin)) {
        text = text.substr(0, line_begin);
      }
    }
    if (!text.empty()) Add(Kind::kText, std::string(text));
    Advance(end);
  }

  static bool BlankFrom(std::string_view text, size_t at) {
    while (at < text.size()) {
      if (!IsSpace(DecodeAt(text, &at))) return false;
    }
    return true;
  }

  char SignAt(size_t i) const { return i < source_.size() && (source_[i] == '-' || source_[i] == '+') ? source_[i] : 0; }

  absl::Status Root() {
    size_t tag = at_;
    for (; (tag = source_.find('{', tag)) != source_.npos; ++tag) {
      if (At(tag, "{%") || At(tag, "{{") || At(tag, "{#")) break;
    }
    if (tag == source_.npos) {
      Add(Kind::kText, source_.substr(at_));
      Advance(source_.size());
      return absl::OkStatus();
    }
    const char sign = SignAt(tag + 2), kind = source_[tag + 1];
    AddText(tag, sign, /*lstrip=*/kind != '{');
    const size_t inside = tag + 2 + (sign ? 1 : 0);
    if (kind == '#') return Comment(inside);
    if (kind == '%') {
      const size_t word_end = SkipWord(inside, "raw");
      if (word_end != source_.npos && (At(word_end, "%}") || At(word_end, "-%}"))) return Raw(word_end);
    }
    Add(kind == '{' ? Kind::kOutputBegin : Kind::kTagBegin, "");
    Advance(inside);
    return Tag(kind == '{');
  }

  // Past "%}" or "#}" with what its sign or trim_blocks takes; npos if no end is there.
  size_t EndOfTag(size_t i, std::string_view end) const {
    if (At(i, end)) {
      i += end.size();
      return end != "}}" && i < source_.size() && source_[i] == '\n' ? i + 1 : i;
    }
    if (source_[i] == '-' && At(i + 1, end)) return SkipSpace(i + 1 + end.size());
    if (source_[i] == '+' && end != "}}" && At(i + 1, end)) return i + 1 + end.size();
    return source_.npos;
  }

  void Finish(size_t end) {
    line_starting_ = source_[end - 1] == '\n';
    Advance(end);
  }

  absl::Status Comment(size_t i) {
    if (i == source_.size()) Advance(i);  // jinja2 lets the last two characters pass
    if (i == source_.size()) return absl::OkStatus();
    for (; i < source_.size(); ++i) {
      if (const size_t end = EndOfTag(i, "#}"); end != source_.npos) {
        Finish(end);
        return absl::OkStatus();
      }
    }
    return TemplateError(line_, "a comment is not closed");
  }

  absl::Status Raw(size_t word_end) {
    const size_t begin = At(word_end, "-") ? SkipSpace(word_end + 3) : word_end + 2;
    Finish(begin);
    if (begin == source_.size()) return absl::OkStatus();
    for (size_t tag = begin; (tag = source_.find("{%", tag)) != source_.npos; tag += 2) {
      const char sign = SignAt(tag + 2);
      const size_t word = SkipWord(tag + 2 + (sign ? 1 : 0), "endraw");
      if (word == source_.npos || word >= source_.size()) continue;
      const size_t end = EndOfTag(word, "%}");
      if (end == source_.npos) continue;
      AddText(tag, sign, /*lstrip=*/true);
      Finish(end);
      return absl::OkStatus();
    }
    return TemplateError(line_, "{% raw %} is not closed");
  }

  absl::Status Tag(bool output) {
    std::string open;  // brackets
    while (at_ < source_.size()) {
      if (open.empty()) {
        if (const size_t end = EndOfTag(at_, output ? "}}" : "%}"); end != source_.npos) {
          Add(output ? Kind::kOutputEnd : Kind::kTagEnd, "");
          Finish(end);
          return absl::OkStatus();
        }
      }
      if (const size_t past = SkipSpace(at_); past > at_) {
        Advance(past);
        continue;
      }
      if (Number() || Name()) continue;
      if (source_[at_] == '\'' || source_[at_] == '"') {
        EBB_RETURN_IF_ERROR(String());
      } else {
        EBB_RETURN_IF_ERROR(Operator(open));
      }
    }
    // The parser complains, with what it waits for.
    return absl::OkStatus();
  }

  bool Number() {
    const std::string_view s = source_;
    if (!IsAsciiDigit(s[at_])) return false;
    const auto any_case = [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); };
    size_t end = SkipDigits(s, at_, IsAsciiDigit);
    bool real = false;
    if (at_ == 0 || s[at_ - 1] != '.') {
      size_t past = end;
      if (past < s.size() && s[past] == '.') {
        const size_t fraction = SkipDigits(s, past + 1, IsAsciiDigit);
        if (fraction != s.npos) past = fraction, real = true;
      }
      if (past < s.size() && any_case(s[past]) == 'e') {
        const bool sign = past + 1 < s.size() && (s[past + 1] == '+' || s[past + 1] == '-');
        const size_t exponent = SkipDigits(s, past + 1 + sign, IsAsciiDigit);
        if (exponent != s.npos) past = exponent, real = true;
      }
      if (real) end = past;
    }
    if (!real) end = EndOfInteger(end);
    std::string digits(s.substr(at_, end - at_));
    std::erase(digits, '_');
    Add(real ? Kind::kFloat : Kind::kInteger, std::move(digits));
    Advance(end);
    return true;
  }

  // Python's integers: 0x, 0o and 0b; a decimal that begins with 0 is a 0.
  size_t EndOfInteger(size_t decimal_end) const {
    const std::string_view s = source_;
    if (s[at_] != '0') return decimal_end;
    const char base = at_ + 1 < s.size() ? static_cast<char>(std::tolower(static_cast<unsigned char>(s[at_ + 1]))) : 0;
    const size_t digits = at_ + 2 + (at_ + 2 < s.size() && s[at_ + 2] == '_');
    size_t end = s.npos;
    if (base == 'x') end = SkipDigits(s, digits, [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; });
    if (base == 'o') end = SkipDigits(s, digits, [](char c) { return c >= '0' && c <= '7'; });
    if (base == 'b') end = SkipDigits(s, digits, [](char c) { return c == '0' || c == '1'; });
    return end != s.npos ? end : SkipDigits(s, at_, [](char c) { return c == '0'; });
  }

  bool Name() {
    size_t end = at_;
    for (size_t next = at_; next < source_.size(); end = next) {
      const char32_t c = DecodeAt(source_, &next);
      if (!IsWord(c) && !u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_XID_CONTINUE)) break;
    }
    if (end == at_) return false;
    Add(Kind::kName, source_.substr(at_, end - at_));
    Advance(end);
    return true;
  }

  absl::Status Operator(std::string& open) {
    for (const std::string_view op : {"//", "**", "==", "!=", ">=", "<="}) {
      if (!At(at_, op)) continue;
      Add(Kind::kOperator, std::string(op));
      Advance(at_ + 2);
      return absl::OkStatus();
    }
    const char c = source_[at_];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      size_t next = at_;
      DecodeAt(source_, &next);
      return TemplateError(line_, absl::StrCat("unexpected '", source_.substr(at_, next - at_), "'"));
    }
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '{') open += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) {
        return TemplateError(line_, absl::StrCat("unexpected '", std::string(1, c), "': a bracket closes nothing"));
      }
      open.pop_back();
    }
    Add(Kind::kOperator, std::string(1, c));
    Advance(at_ + 1);
    return absl::OkStatus();
  }

  absl::Status String() {
    const char quote = source_[at_];
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return TemplateError(line_, "a string is not closed");
    EBB_ASSIGN_OR_RETURN(std::string text, Unescape(std::string_view(source_).substr(at_ + 1, end - at_ - 1)));
    Add(Kind::kString, std::move(text));
    Advance(end + 1);
    return absl::OkStatus();
  }

  // As Python's unicode-escape codec reads what "backslashreplace" wrote.
  absl::StatusOr<std::string> Unescape(std::string_view s) const {
    std::string out;
    for (size_t i = 0; i < s.size();) {
      if (s[i] != '\\') {
        out += s[i++];
        continue;
      }
      const char c = s[++i];
      static constexpr std::string_view kFrom = "\\'\"abfnrtv", kTo = "\\'\"\a\b\f\n\r\t\v";
      const size_t known = kFrom.find(c);
      if (c == '\n') ++i;  // nothing
      else if (known != kFrom.npos) out += kTo[known], ++i;
      else if (c >= '0' && c <= '7') AppendOctal(s, i, out);
      else if (c == 'x' || c == 'u' || c == 'U') EBB_RETURN_IF_ERROR(AppendHex(s, i, out));
      else if (c == 'N') EBB_RETURN_IF_ERROR(AppendNamed(s, i, out));
      else AppendOther(s, i, out);
    }
    return out;
  }

  static void AppendOctal(std::string_view s, size_t& i, std::string& out) {
    char32_t value = 0;
    for (int digits = 0; digits < 3 && i < s.size() && s[i] >= '0' && s[i] <= '7'; ++digits) value = value * 8 + static_cast<char32_t>(s[i++] - '0');
    AppendCodePoint(value, out);
  }

  absl::Status AppendHex(std::string_view s, size_t& i, std::string& out) const {
    const size_t digits = s[i] == 'x' ? 2 : s[i] == 'u' ? 4 : 8;
    char32_t value = 0;
    for (size_t k = 1; k <= digits; ++k) {
      const char c = i + k < s.size() ? s[i + k] : 'z';
      if (!std::isxdigit(static_cast<unsigned char>(c))) return TemplateError(line_, absl::StrCat("truncated \\", std::string(s.substr(i, 1)), " escape"));
      value = value * 16 + static_cast<char32_t>(IsAsciiDigit(c) ? c - '0' : std::tolower(static_cast<unsigned char>(c)) - 'a' + 10);
    }
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return TemplateError(line_, "an escape that is no character");
    AppendCodePoint(value, out);
    i += 1 + digits;
    return absl::OkStatus();
  }

  absl::Status AppendNamed(std::string_view s, size_t& i, std::string& out) const {
    const size_t end = s.find('}', i);
    if (i + 1 >= s.size() || s[i + 1] != '{' || end == s.npos) return TemplateError(line_, "malformed \\N character escape");
    const std::string name(s.substr(i + 2, end - i - 2));
    for (const UCharNameChoice choice : {U_UNICODE_CHAR_NAME, U_CHAR_NAME_ALIAS}) {
      UErrorCode error = U_ZERO_ERROR;
      const UChar32 c = u_charFromName(choice, name.c_str(), &error);
      if (U_FAILURE(error)) continue;
      AppendCodePoint(static_cast<char32_t>(c), out);
      i = end + 1;
      return absl::OkStatus();
    }
    return TemplateError(line_, "unknown Unicode character name");
  }

  // A backslash that escapes nothing stays. Before what is not ASCII it shows how Python spells it.
  static void AppendOther(std::string_view s, size_t& i, std::string& out) {
    out += '\\';
    if (static_cast<unsigned char>(s[i]) < 0x80) {
      out += s[i++];
      return;
    }
    const char32_t c = DecodeAt(s, &i);
    const char* kind = c < 0x100 ? "x" : c < 0x10000 ? "u" : "U";
    absl::StrAppend(&out, kind, c < 0x100 ? absl::StrCat(absl::Hex(static_cast<uint32_t>(c), absl::kZeroPad2))
                                : c < 0x10000 ? absl::StrCat(absl::Hex(static_cast<uint32_t>(c), absl::kZeroPad4))
                                              : absl::StrCat(absl::Hex(static_cast<uint32_t>(c), absl::kZeroPad8)));
  }

  const std::string source_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;
  std::vector<Lexeme> lexemes_;
};

}  // namespace

absl::StatusOr<std::vector<Lexeme>> Lex(std::string_view source) { return Lexer(source).Run(); }

}  // namespace ebbinghaus::jinja
