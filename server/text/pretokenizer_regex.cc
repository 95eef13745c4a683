#include "server/text/pretokenizer_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "server/base/status_macros.h"
#include "server/text/tokenizer_strings.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

constexpr size_t kMaxPatternBytes = 64 * 1024;
constexpr uint32_t kParenthesesLimit = 100;
constexpr uint32_t kHeapLimitKibibytes = 64 * 1024;
constexpr uint64_t kFreeSteps = 1024;
constexpr size_t kStepsInOneGo = 10'000'000;

// Rewrites the escapes that mean something else, or nothing, in PCRE2.
class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  absl::StatusOr<std::string> Run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        EBB_RETURN_IF_ERROR(Escape());
        continue;
      }
      if (caseless_.back()) EBB_RETURN_IF_ERROR(CheckCaseless(c));
      EBB_RETURN_IF_ERROR(in_class_ ? InClass(c) : Outside(c));
    }
    return std::move(out_);
  }

 private:
  absl::Status Unsupported(std::string_view what) const {
    return absl::InvalidArgumentError(Concat({"the regular expression holds ", what, " at byte ",
                                              std::to_string(at_), ", which is not supported"}));
  }
  void Copy(size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }
  char Peek(size_t ahead) const {
    return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0';
  }

  // Oniguruma folds a few letters to two ("ß" to "ss"), PCRE2 folds one to one only. In ASCII these
  // pairs are all.
  absl::Status CheckCaseless(char c) const {
    if ((static_cast<uint8_t>(c) & 0x80) != 0) return Unsupported("a letter of many cases");
    const char pair[] = {absl::ascii_tolower(c), absl::ascii_tolower(Peek(1)), '\0'};
    for (const std::string_view folded : {"ss", "st", "ff", "fi", "fl"}) {
      if (folded == pair) return Unsupported("a ligature's letters without case");
    }
    return absl::OkStatus();
  }

  absl::Status InClass(char c) {
    if (c == '[') return Unsupported("a set inside a set");
    if (c == '&' && Peek(1) == '&') return Unsupported("an intersection of sets");
    if (c == ']') in_class_ = false;
    Copy(1);
    return absl::OkStatus();
  }

  absl::Status Outside(char c) {
    if (c == '[') {
      in_class_ = true;
      Copy(1);
      if (Peek(0) == '^') Copy(1);
      if (Peek(0) == ']') return Unsupported("an empty set");
    } else if (c == '{') {
      return Interval();
    } else if (c == '(' && Peek(1) == '?') {
      // Groups, look-around and option (?i) mean the same; the rest (names, conditions, recursion,
      // other options) is not worth the risk.
      const std::string_view rest = pattern_.substr(at_ + 2);
      for (std::string_view known : {":", "=", "!", "<=", "<!", ">", "i:", "i)"}) {
        if (rest.substr(0, known.size()) == known) {
          const bool caseless = known[0] == 'i';
          // Later on, Oniguruma lets the option reach across the next |, PCRE2 does not.
          if (known == "i)" && at_ != 0) return Unsupported("an option in the middle");
          if (known == "i)") {
            caseless_.back() = true;
          } else {
            caseless_.push_back(caseless || caseless_.back());
          }
          Copy(2 + known.size());
          return absl::OkStatus();
        }
      }
      return Unsupported("a group of a rare kind");
    } else if (c == '(' && Peek(1) == '*') {
      return Unsupported("a control verb");
    } else {
      if (c == '(') caseless_.push_back(caseless_.back());
      if (c == ')' && caseless_.size() > 1) caseless_.pop_back();
      Copy(1);
    }
    return absl::OkStatus();
  }

  absl::Status Interval() {
    const size_t close = pattern_.find('}', at_);
    if (close == std::string_view::npos)
      return Unsupported("an open brace without its counterpart");
    const std::string_view body = pattern_.substr(at_ + 1, close - at_ - 1);
    const bool counts = !body.empty() && absl::ascii_isdigit(body.front()) &&
                        std::all_of(body.begin(), body.end(),
                                    [](char c) { return absl::ascii_isdigit(c) || c == ','; });
    if (!counts) return Unsupported("an interval of a rare kind");
    Copy(body.size() + 2);
    // Oniguruma repeats the interval, PCRE2 makes it possessive.
    if (Peek(0) == '+') return Unsupported("a plus after an interval");
    return absl::OkStatus();
  }

  absl::Status Escape() {
    const char c = Peek(1);
    switch (c) {
      case 's':
        return Class(R"(\t-\r\x{85}\p{Z})");  // PCRE2's own includes U+180E
      case 'S':
        return NegatedClass(R"(\t-\r\x{85}\p{Z})");
      case 'w':
        return Class(R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})");
      case 'W':
        return NegatedClass(R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})");
      case 'b':
      case 'B':
        if (in_class_) break;
        return WordBoundary(c == 'B');
      case 'v':
        at_ += 2;
        out_ += R"(\x0b)";
        return absl::OkStatus();
      case 'p':
      case 'P':
        return Property();
      case 'u':
      case 'x':
        return Hexadecimal();
      case 'd':
      case 'D':
      case 'r':
      case 'n':
      case 't':
      case 'f':
        Copy(2);
        return absl::OkStatus();
      case 'A':
      case 'z':
      case 'Z':
        if (in_class_) break;
        Copy(2);
        return absl::OkStatus();
      default:
        if (absl::ascii_ispunct(c)) {
          Copy(2);
          return absl::OkStatus();
        }
        if ((static_cast<uint8_t>(c) & 0x80) != 0) {  // an escaped letter of another script: itself
          at_ += 1;
          return absl::OkStatus();
        }
    }
    return Unsupported(Concat({"the escape \\", std::string(1, c == '\0' ? ' ' : c)}));
  }

  absl::Status WordBoundary(bool negated) {
    constexpr std::string_view kWord = R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])";
    out_ += Concat({negated ? "(?!" : "(?:", "(?<=", kWord, ")(?!", kWord, ")|(?<!", kWord, ")(?=",
                    kWord, "))"});
    at_ += 2;
    return absl::OkStatus();
  }

  absl::Status Class(std::string_view members) {
    out_ += Concat({in_class_ ? "" : "[", members, in_class_ ? "" : "]"});
    at_ += 2;
    return absl::OkStatus();
  }

  absl::Status NegatedClass(std::string_view members) {
    if (in_class_) {
      // Inside a set there is no negated set; the two that are needed have a name of their own.
      if (Peek(1) != 'S') return Unsupported("the escape \\W inside a set");
      return NotSpaceInClass();
    }
    out_ += Concat({"[^", members, "]"});
    at_ += 2;
    return absl::OkStatus();
  }

  // Everything but white space, spelled as ranges (White_Space of Unicode, which no longer
  // changes).
  absl::Status NotSpaceInClass() {
    out_ +=
        R"(\x00-\x08\x0e-\x1f!-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
        R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{d7ff}\x{e000}-\x{10ffff})";
    at_ += 2;
    return absl::OkStatus();
  }

  absl::Status Property() {
    size_t end = at_ + 3;
    if (Peek(2) != '{') return Unsupported("a property without braces");
    end = pattern_.find('}', at_);
    if (end == std::string_view::npos) return Unsupported("a property without its closing brace");
    Copy(end + 1 - at_);
    return absl::OkStatus();
  }

  absl::Status Hexadecimal() {
    size_t begin = at_ + 2, length = 0;
    size_t skip = 0;
    if (Peek(1) == 'x' && Peek(2) == '{') {
      begin = at_ + 3;
      skip = 1;
    }
    const size_t most = skip == 1 ? 6 : (Peek(1) == 'u' ? 4 : 2);
    while (length < most && begin + length < pattern_.size() &&
           absl::ascii_isxdigit(pattern_[begin + length])) {
      ++length;
    }
    const bool closed =
        skip == 0 || (begin + length < pattern_.size() && pattern_[begin + length] == '}');
    if (length == 0 || !closed || (Peek(1) == 'u' && length != 4)) {
      return Unsupported("a malformed code point");
    }
    out_ += Concat({"\\x{", pattern_.substr(begin, length), "}"});
    at_ = begin + length + skip;
    return absl::OkStatus();
  }

  std::string_view pattern_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::vector<bool> caseless_{false};  // of the group at hand and those around it
};

struct Found {
  bool match = false;
  size_t next = 0;  // without a match: where to look next
};

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

}  // namespace

class Regex::Code {
 public:
  explicit Code(pcre2_code* code) : code_(code) {
    // Without JIT (not built in, or executable memory forbidden) pcre2_match interprets.
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
  }
  ~Code() { pcre2_code_free(code_); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  const pcre2_code* get() const { return code_; }

 private:
  pcre2_code* code_;
};

absl::StatusOr<std::string> TranslatePattern(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError("the regular expression is longer than 64 KiB");
  }
  if (!IsValidUtf8(pattern)) {
    return absl::InvalidArgumentError("the regular expression is not UTF-8");
  }
  return Translator(pattern).Run();
}

absl::StatusOr<Regex> Regex::Compile(std::string_view pattern) {
  EBB_ASSIGN_OR_RETURN(const std::string translated, TranslatePattern(pattern));
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  if (context == nullptr) return absl::ResourceExhaustedError("no memory for a regular expression");
  pcre2_set_parens_nest_limit(context, kParenthesesLimit);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // MULTILINE: ^ and $ also stand at line breaks, as in Oniguruma's Ruby syntax, which the
  // definitions are written in.
  pcre2_code* code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT,
      &error, &offset, context);
  pcre2_compile_context_free(context);
  if (code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return absl::InvalidArgumentError(Concat(
        {"the regular expression does not parse: ", reinterpret_cast<const char*>(message)}));
  }
  return Regex(std::make_shared<const Code>(code));
}

void Regex::FindAll(std::string_view text, std::vector<TextRange>& out, EncodeStop* stop) const {
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create_from_pattern(code_->get(), nullptr));
  const std::unique_ptr<pcre2_match_context, MatchContextDeleter> context(
      pcre2_match_context_create(nullptr));
  if (data == nullptr || context == nullptr) return;
  pcre2_set_heap_limit(context.get(), kHeapLimitKibibytes);
  // The patterns in use walk a run of white space twice at most; what takes more backtracking than
  // kFreeSteps for one match pays for it from a budget for the whole text.
  uint64_t budget = 1'000'000 + 64 * static_cast<uint64_t>(text.size());

  const auto match = [&](size_t at, uint32_t options) {
    return pcre2_match(code_->get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                       PCRE2_NO_UTF_CHECK | options, data.get(), context.get());
  };
  const auto find = [&](size_t at) {
    // A bounded number of places is tried in one go, so that `stop` is asked in between.
    const size_t places = std::max<size_t>(kStepsInOneGo / (text.size() - at + 1), 1);
    const size_t last = std::min(text.size(), at + places);
    pcre2_set_offset_limit(context.get(), last);
    for (uint64_t limit = kFreeSteps;; limit *= 4) {
      pcre2_set_match_limit(context.get(),
                            static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
      int found = match(at, 0);
      if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(at, PCRE2_NO_JIT);
      if (found == PCRE2_ERROR_NOMATCH && last < text.size()) return Found{false, last + 1};
      if (found != PCRE2_ERROR_MATCHLIMIT) return Found{found >= 0, text.size() + 1};
      if (limit > budget || (stop != nullptr && stop->Cancelled(limit))) break;
      budget -= limit;
    }
    return Found{false, text.size() + 1};
  };

  size_t last_end = SIZE_MAX;  // an empty match where the last match ended is none
  for (size_t at = 0; at <= text.size();) {
    if (stop != nullptr && stop->Cancelled(16)) return;
    if (const Found found = find(at); !found.match) {
      at = found.next;
      while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80) ++at;
      continue;
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    const TextRange range{ends[0], ends[1]};
    if (range.end > range.begin) {
      out.push_back(range);
      at = last_end = range.end;
      continue;
    }
    if (range.begin != last_end) out.push_back(range);
    if (range.end >= text.size()) return;
    at = range.end + DecodeUtf8(text.substr(range.end)).size;
    last_end = range.end;
  }
}

}  // namespace ebbinghaus::text
