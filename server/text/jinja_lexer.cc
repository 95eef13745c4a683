#include "server/text/jinja_lexer.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::text::jinja {
namespace {

using Kind = Lexeme::Kind;

bool IsNameStart(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsNamePart(char c) { return IsNameStart(c) || std::isdigit(static_cast<unsigned char>(c)); }
bool IsSpace(char c) { return std::isspace(static_cast<unsigned char>(c)); }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {
    if (!source_.empty() && source_.back() == '\n') source_.remove_suffix(1);
    if (!source_.empty() && source_.back() == '\r') source_.remove_suffix(1);
  }

  absl::StatusOr<std::vector<Lexeme>> Run() {
    while (at_ < source_.size()) EBB_RETURN_IF_ERROR(TextAndTag());
    Push(Kind::kEnd, "");
    return std::move(out_);
  }

 private:
  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("chat template, line ", line_, ": ", what));
  }
  void Push(Kind kind, std::string text) { out_.push_back({kind, std::move(text), line_}); }
  bool Starts(std::string_view word) const { return source_.substr(at_, word.size()) == word; }
  void Advance(size_t count) {
    line_ += static_cast<int>(std::count(source_.begin() + at_, source_.begin() + at_ + count, '\n'));
    at_ += count;
  }

  // The text up to the next tag, then that tag.
  absl::Status TextAndTag() {
    size_t open = at_;
    while (open + 1 < source_.size() && !(source_[open] == '{' && std::string_view("{%#").find(source_[open + 1]) != std::string_view::npos)) ++open;
    if (open + 1 >= source_.size()) open = source_.size();
    std::string text(source_.substr(at_, open - at_));
    const size_t text_length = text.size();
    if (strip_next_) text.erase(0, std::min(text.find_first_not_of(" \t\r\n\v\f"), text.size()));
    strip_next_ = false;
    const bool tag = open < source_.size();
    const char kind = tag ? source_[open + 1] : 0;
    const char control = tag && open + 2 < source_.size() ? source_[open + 2] : 0;
    if (control == '-') {
      while (!text.empty() && IsSpace(text.back())) text.pop_back();
    } else if (kind != '{' && tag && control != '+') {
      StripLineStart(text);
    }
    if (!text.empty()) Push(Kind::kText, text);
    Advance(text_length);
    if (!tag) return absl::OkStatus();
    Advance(2 + (control == '-' || control == '+' ? 1 : 0));
    if (kind == '#') return Comment();
    return Tag(kind == '%');
  }

  // lstrip_blocks: blanks between the start of a line and a block tag go.
  void StripLineStart(std::string& text) const {
    const size_t keep = text.find_last_not_of(" \t");
    const bool line_start = keep == text.npos ? line_begins_ : text[keep] == '\n';
    if (line_start) text.erase(keep == text.npos ? 0 : keep + 1);
  }

  absl::Status Comment() {
    const size_t end = source_.find("#}", at_);
    if (end == source_.npos) return Bad("a comment is not closed");
    const char control = end > at_ ? source_[end - 1] : 0;
    Advance(end + 2 - at_);
    AfterTag(control, /*trims=*/true);
    return absl::OkStatus();
  }

  // What a tag's end does to the text behind it.
  void AfterTag(char control, bool trims) {
    line_begins_ = false;
    strip_next_ = control == '-';
    if (trims && control != '-' && control != '+') {
      const size_t newline = Starts("\r\n") ? 2 : Starts("\n") ? 1 : 0;
      Advance(newline);
      line_begins_ = newline > 0;
    }
  }

  absl::Status Tag(bool block) {
    const std::string_view close = block ? "%}" : "}}";
    Push(block ? Kind::kTagBegin : Kind::kOutputBegin, "");
    const size_t first = out_.size();
    int depth = 0;
    while (true) {
      while (at_ < source_.size() && IsSpace(source_[at_])) Advance(1);
      if (at_ >= source_.size()) return Bad("a tag is not closed");
      const char c = source_[at_];
      const bool controlled = (c == '-' || c == '+') && source_.substr(at_ + 1, 2) == close;
      if (depth == 0 && (controlled || Starts(close))) {
        Push(block ? Kind::kTagEnd : Kind::kOutputEnd, "");
        Advance(controlled ? 3 : 2);
        AfterTag(controlled ? c : 0, block);
        break;
      }
      EBB_RETURN_IF_ERROR(Token(depth));
    }
    const bool raw = block && out_.size() == first + 2 && out_[first].text == "raw" && out_[first].kind == Kind::kName;
    return raw ? Raw(first - 1) : absl::OkStatus();
  }

  absl::Status Token(int& depth) {
    const char c = source_[at_];
    if (c == '"' || c == '\'') return String(c);
    size_t end = at_;
    if (IsNameStart(c)) {
      while (end < source_.size() && IsNamePart(source_[end])) ++end;
      Push(Kind::kName, std::string(source_.substr(at_, end - at_)));
    } else if (std::isdigit(static_cast<unsigned char>(c))) {
      const auto digits = [&] { while (end < source_.size() && (std::isdigit(static_cast<unsigned char>(source_[end])) || source_[end] == '_')) ++end; };
      digits();
      const bool real = end + 1 < source_.size() && source_[end] == '.' && std::isdigit(static_cast<unsigned char>(source_[end + 1]));
      if (real) {
        ++end;
        digits();
      }
      std::string text(source_.substr(at_, end - at_));
      text.erase(std::remove(text.begin(), text.end(), '_'), text.end());
      if (text.size() > 18) return Bad("a number is too long");
      Push(real ? Kind::kFloat : Kind::kInteger, std::move(text));
    } else {
      const std::string_view two = source_.substr(at_, 2);
      static constexpr std::string_view kTwo[] = {"==", "!=", "<=", ">=", "//", "**"};
      const bool pair = std::find(std::begin(kTwo), std::end(kTwo), two) != std::end(kTwo);
      end += pair ? 2 : 1;
      if (!pair && std::string_view("+-*/%~<>=()[]{}.,:|").find(c) == std::string_view::npos) return Bad(absl::StrCat("unexpected character '", std::string(1, c), "'"));
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') --depth;
      if (depth < 0) return Bad("a bracket closes nothing");
      Push(Kind::kOperator, std::string(source_.substr(at_, end - at_)));
    }
    Advance(end - at_);
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    std::string text;
    size_t end = at_ + 1;
    for (; end < source_.size() && source_[end] != quote; ++end) {
      if (source_[end] != '\\') {
        text += source_[end];
        continue;
      }
      if (++end >= source_.size()) break;
      switch (source_[end]) {
        case 'n': text += '\n'; break;
        case 't': text += '\t'; break;
        case 'r': text += '\r'; break;
        case '\\': case '\'': case '"': text += source_[end]; break;
        case 'u': case 'x': return Bad("\\u and \\x escapes are not supported");
        default: text += '\\'; text += source_[end];
      }
    }
    if (end >= source_.size()) return Bad("a string is not closed");
    Push(Kind::kString, std::move(text));
    Advance(end + 1 - at_);
    return absl::OkStatus();
  }

  // Everything up to the matching endraw is text.
  absl::Status Raw(size_t tag_begin) {
    out_.resize(tag_begin);
    const size_t end = source_.find("endraw", at_);
    const size_t open = end == source_.npos ? end : source_.rfind("{%", end);
    const size_t close = end == source_.npos ? end : source_.find("%}", end);
    if (open == source_.npos || open < at_ || close == source_.npos) return Bad("raw is not closed");
    Push(Kind::kText, std::string(source_.substr(at_, open - at_)));
    Advance(close + 2 - at_);
    AfterTag(0, /*trims=*/true);
    return absl::OkStatus();
  }

  std::string_view source_;
  size_t at_ = 0;
  int line_ = 1;
  bool strip_next_ = false;
  bool line_begins_ = true;  // the text that follows starts a line
  std::vector<Lexeme> out_;
};

}  // namespace

absl::StatusOr<std::vector<Lexeme>> Lex(std::string_view source) { return Lexer(source).Run(); }

}  // namespace ebbinghaus::text::jinja
