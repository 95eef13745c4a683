// Strings of the template language.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ebbinghaus::jinja {

// A valid UTF-8 string that remembers which of its bytes a caller wrote, so that those can be kept
// from spelling special tokens. One mark per byte: slicing, joining and trimming need no further
// thought, and what maps characters gives each result its character's mark.
class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool from_caller = false)
      : bytes_(std::move(bytes)), marks_(from_caller ? std::string(bytes_.size(), '\1') : "") {}

  const std::string& bytes() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size(); }
  bool marked(size_t i) const { return !marks_.empty() && marks_[i] != 0; }
  bool any_marked() const { return marks_.find('\1') != marks_.npos; }

  // jinja2's Markup: text that is taken for escaped, and escapes what is joined to it.
  bool markup() const { return markup_; }
  Text WithMarkup(bool markup) const;

  // The bytes [begin, end), as the same kind of text.
  Text Slice(size_t begin, size_t end) const;
  void Append(const Text& other);
  void Append(std::string_view bytes, bool from_caller);
  // The bytes [begin, end) of `other`.
  void Append(const Text& other, size_t begin, size_t end);

 private:
  std::string bytes_;
  std::string marks_;  // empty: none is set
  bool markup_ = false;
};

// Where the code points of a text begin. ASCII costs no memory.
class CodePoints {
 public:
  explicit CodePoints(std::string_view bytes);
  size_t count() const { return count_; }
  // The byte where code point i begins; i = count() is the end.
  size_t offset(size_t i) const { return offsets_.empty() ? i : offsets_[i]; }
  char32_t at(size_t i) const;
  // The code point that begins at that byte offset.
  size_t IndexOf(size_t offset) const;

 private:
  std::string_view bytes_;
  size_t count_;
  std::vector<size_t> offsets_;
};

char32_t DecodeAt(std::string_view bytes, size_t* at);  // advances `at`
void AppendCodePoint(char32_t c, std::string& out);
bool IsValidUtf8(std::string_view bytes);

// Where `part` begins in `text`, from `from` on; npos if nowhere. In linear time, unlike
// std::string's.
size_t FindIn(std::string_view text, std::string_view part, size_t from = 0);
// The last place that begins in [from, to]; npos if none.
size_t FindLastIn(std::string_view text, std::string_view part, size_t from, size_t to);

// Python's classes of characters.
bool IsSpace(char32_t c);      // str.isspace, and re's \s
bool IsLineBreak(char32_t c);  // where str.splitlines splits
bool IsDecimal(char32_t c);
bool IsDigit(char32_t c);
bool IsNumeric(char32_t c);
bool IsAlpha(char32_t c);
bool IsWord(char32_t c);  // re's \w
bool IsPrintable(char32_t c);
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsTitle(char32_t c);
bool IsCased(char32_t c);
bool IsIdentifier(std::string_view name);

enum class Case { kUpper, kLower, kTitle, kCapitalize, kSwap, kFold };
// Python's str.upper, lower, title, capitalize, swapcase, casefold.
Text ChangeCase(const Text& text, Case to);

}  // namespace ebbinghaus::jinja
