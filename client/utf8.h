// As much of Unicode as laying out text in terminal columns needs.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace ebbinghaus::client {

// Takes the first code point off `text`, which must not be empty. A byte that is no part of valid
// UTF-8 comes back as U+FFFD, one byte at a time.
char32_t TakeCodePoint(std::string_view& text);

// The offset of the first byte that is not valid UTF-8 (overlong forms and surrogates are not);
// npos if all is.
size_t FindInvalidUtf8(std::string_view text);

size_t CountCodePoints(std::string_view text);

// The part of `text` from code point `begin` on, at most `count` code points long.
std::string CodePointSubstring(std::string_view text, size_t begin, size_t count);

// Columns that a terminal gives the text: 2 for wide East Asian characters and emoji, 0 for
// combining marks. By code point: emoji joined to one by ZWJ are counted one by one.
int DisplayWidth(std::string_view text);

// The text safe to print in one place: control characters but newline and tab become U+FFFD, so
// that nothing a model writes can move the cursor.
std::string Printable(std::string_view text);

// The same on one line: newlines and tabs become blanks, so that a name or a message cannot pass for
// a line of this program.
std::string PrintableLine(std::string_view text);

// Lines of at most `width` (>= 2) columns, broken at newlines, else at spaces, else anywhere. Tabs
// become spaces and control characters U+FFFD. An empty text is one empty line.
std::vector<std::string> Wrap(std::string_view text, int width);

}  // namespace ebbinghaus::client
