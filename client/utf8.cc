#include "client/utf8.h"

#include <algorithm>
#include <iterator>

namespace ebbinghaus::client {
namespace {

constexpr char32_t kReplacement = 0xFFFD;
constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";

struct Range {
  char32_t first, last;
};

// Nonspacing marks and format characters of the common scripts, ascending.
constexpr Range kZeroWidth[] = {
    {0x0300, 0x036F},   {0x0483, 0x0489},   {0x0591, 0x05BD},   {0x05BF, 0x05BF}, {0x05C1, 0x05C2},
    {0x0610, 0x061A},   {0x064B, 0x065F},   {0x0670, 0x0670},   {0x06D6, 0x06DC}, {0x0900, 0x0902},
    {0x093A, 0x093A},   {0x093C, 0x093C},   {0x0941, 0x0948},   {0x094D, 0x094D}, {0x0981, 0x0981},
    {0x09BC, 0x09BC},   {0x0E31, 0x0E31},   {0x0E34, 0x0E3A},   {0x0E47, 0x0E4E}, {0x1AB0, 0x1AFF},
    {0x1DC0, 0x1DFF},   {0x200B, 0x200F},   {0x202A, 0x202E},   {0x2060, 0x2064}, {0x20D0, 0x20FF},
    {0x302A, 0x302D},   {0x3099, 0x309A},   {0xFE00, 0xFE0F},   {0xFE20, 0xFE2F}, {0xFEFF, 0xFEFF},
    {0x1F3FB, 0x1F3FF}, {0xE0020, 0xE007F}, {0xE0100, 0xE01EF},
};

// East Asian wide and fullwidth blocks, and emoji, ascending.
constexpr Range kWide[] = {
    {0x1100, 0x115F},   {0x231A, 0x231B},   {0x23E9, 0x23EC},   {0x2614, 0x2615},
    {0x2648, 0x2653},   {0x26A1, 0x26A1},   {0x26BD, 0x26BE},   {0x26D4, 0x26D4},
    {0x26EA, 0x26EA},   {0x2705, 0x2705},   {0x270A, 0x270B},   {0x2728, 0x2728},
    {0x274C, 0x274C},   {0x2753, 0x2755},   {0x2757, 0x2757},   {0x2795, 0x2797},
    {0x2B1B, 0x2B1C},   {0x2B50, 0x2B50},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},
    {0xA960, 0xA97F},   {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},
    {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},   {0x1F300, 0x1F64F}, {0x1F680, 0x1F6FF},
    {0x1F7E0, 0x1F7EB}, {0x1F900, 0x1F9FF}, {0x1FA70, 0x1FAFF}, {0x20000, 0x3FFFD},
};

template <size_t n>
bool Contains(const Range (&ranges)[n], char32_t c) {
  const Range* after =
      std::upper_bound(std::begin(ranges), std::end(ranges), c,
                       [](char32_t value, const Range& r) { return value < r.first; });
  return after != std::begin(ranges) && c <= std::prev(after)->last;
}

bool IsControl(char32_t c) { return c < 0x20 || (c >= 0x7F && c < 0xA0); }

int Width(char32_t c) {
  if (Contains(kZeroWidth, c)) return 0;
  return Contains(kWide, c) ? 2 : 1;
}

// Code point and length in bytes of what `text` starts with; length 0 if that is not valid UTF-8.
struct Decoded {
  char32_t value = kReplacement;
  size_t size = 0;
};

Decoded Decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < size) return {};
  char32_t value = lead & (0xFF >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    value = (value << 6) | (byte(i) & 0x3F);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kSmallest[size] || value > 0x10FFFF || surrogate) return {};
  return {value, size};
}

}  // namespace

char32_t TakeCodePoint(std::string_view& text) {
  const Decoded decoded = Decode(text);
  text.remove_prefix(std::max<size_t>(decoded.size, 1));
  return decoded.value;
}

size_t FindInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Decoded decoded = Decode(text.substr(at));
    if (decoded.size == 0) return at;
    at += decoded.size;
  }
  return std::string_view::npos;
}

size_t CountCodePoints(std::string_view text) {
  size_t count = 0;
  for (; !text.empty(); ++count) TakeCodePoint(text);
  return count;
}

std::string CodePointSubstring(std::string_view text, size_t begin, size_t count) {
  for (; begin > 0 && !text.empty(); --begin) TakeCodePoint(text);
  std::string_view rest = text;
  for (; count > 0 && !rest.empty(); --count) TakeCodePoint(rest);
  return std::string(text.substr(0, text.size() - rest.size()));
}

int DisplayWidth(std::string_view text) {
  int width = 0;
  while (!text.empty()) width += Width(TakeCodePoint(text));
  return width;
}

std::string Printable(std::string_view text) {
  std::string printable;
  while (!text.empty()) {
    const std::string_view before = text;
    const char32_t c = TakeCodePoint(text);
    const bool control = IsControl(c) && c != '\n' && c != '\t';
    printable += control || c == kReplacement ? kReplacementUtf8
                                              : before.substr(0, before.size() - text.size());
  }
  return printable;
}

std::string PrintableLine(std::string_view text) {
  std::string line = Printable(text);
  std::replace_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return line;
}

std::vector<std::string> Wrap(std::string_view text, int width) {
  std::vector<std::string> lines;
  std::string line, word;
  int line_width = 0, word_width = 0;
  const auto end_word = [&] {
    line += word;
    line_width += word_width;
    word.clear();
    word_width = 0;
  };
  const auto end_line = [&] {
    lines.push_back(std::move(line));
    line.clear();
    line_width = 0;
  };
  const std::string safe = Printable(text);
  for (std::string_view rest = safe; !rest.empty();) {
    const std::string_view before = rest;
    const char32_t c = TakeCodePoint(rest);
    if (c == '\n') {
      end_word();
      end_line();
      continue;
    }
    if (c == ' ' || c == '\t') {
      end_word();
      // A space that would start a line, because the line before it is full, is the line break.
      if (line_width + 1 > width) {
        end_line();
      } else {
        line += ' ';
        ++line_width;
      }
      continue;
    }
    const int columns = Width(c);
    if (line_width + word_width + columns > width) {
      if (line_width > 0) {
        end_line();  // the word goes to the next line as a whole
      }
      if (word_width + columns > width) {
        end_word();  // longer than a line: broken where it is full
        end_line();
      }
    }
    word += before.substr(0, before.size() - rest.size());
    word_width += columns;
  }
  end_word();
  end_line();
  return lines;
}

}  // namespace ebbinghaus::client
