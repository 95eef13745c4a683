#include "server/jinja/wrap.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace ebbinghaus::jinja {
namespace {

bool IsBlank(char32_t c) { return c == ' ' || (c >= 9 && c <= 13); }
bool IsLetter(char32_t c) { return IsWord(c) && !IsDecimal(c); }
bool IsWordPunctuation(char32_t c) {
  return IsWord(c) || (c < 0x80 && std::string_view("!\"'&.,?").find(static_cast<char>(c)) != std::string_view::npos);
}

// Cuts a text where textwrap may break it: blanks, em-dashes, words and parts of hyphenated words.
class Chunker {
 public:
  Chunker(const Text& text, bool hyphens) : text_(text), points_(text.bytes()), hyphens_(hyphens) {}

  std::vector<Text> Run() {
    std::vector<Text> chunks;
    for (size_t at = 0; at < points_.count();) {
      const size_t end = End(at);
      chunks.push_back(text_.Slice(points_.offset(at), points_.offset(end)));
      at = end;
    }
    return chunks;
  }

 private:
  char32_t At(size_t i) const { return i < points_.count() ? points_.at(i) : 0; }
  bool Is(size_t i, bool (*is)(char32_t)) const { return i < points_.count() && is(points_.at(i)); }

  // Behind two hyphens or more that a word character follows; 0 if there are none.
  size_t Dash(size_t at) const {
    size_t end = at;
    while (At(end) == '-') ++end;
    return end >= at + 2 && Is(end, IsWord) ? end : 0;
  }

  size_t End(size_t at) const {
    size_t end = at;
    if (Is(at, IsBlank)) {
      while (Is(end, IsBlank)) ++end;
      return end;
    }
    if (!hyphens_) {
      while (end < points_.count() && !Is(end, IsBlank)) ++end;
      return end;
    }
    if (at > 0 && Is(at - 1, IsWordPunctuation)) {
      if (const size_t dash = Dash(at)) return dash;
    }
    for (end = at + 1;; ++end) {
      // A hyphen behind two letters, or behind letter, hyphen or punctuation and letter; letters follow.
      const bool before = end >= 2 && Is(end - 1, IsLetter) &&
                          (Is(end - 2, IsLetter) || (At(end - 2) == '-' && end >= 3 && Is(end - 3, IsLetter)));
      if (At(end) == '-' && before && LettersAt(end + 1)) return end + 1;
      if (end == points_.count() || Is(end, IsBlank)) return end;
      if (Is(end - 1, IsWordPunctuation) && Dash(end) != 0) return end;
    }
  }

  bool LettersAt(size_t i) const { return Is(i, IsLetter) && (Is(i + 1, IsLetter) || (At(i + 1) == '-' && Is(i + 2, IsLetter))); }

  const Text& text_;
  const CodePoints points_;
  const bool hyphens_;
};

bool AllBlank(const Text& text) {
  for (size_t at = 0; at < text.size();) {
    if (!IsSpace(DecodeAt(text.bytes(), &at))) return false;
  }
  return true;
}

size_t Count(const Text& text) { return CodePoints(text.bytes()).count(); }

// How many characters of a chunk too long for a line go on it: as many as fit, but a hyphen among
// them ends it earlier.
size_t PartOf(const Text& chunk, size_t space, bool hyphens) {
  const CodePoints points(chunk.bytes());
  if (!hyphens || points.count() <= space) return space;
  size_t hyphen = space;
  while (hyphen > 0 && points.at(hyphen - 1) != '-') --hyphen;
  if (hyphen <= 1) return space;
  for (size_t i = 0; i + 1 < hyphen; ++i) {
    if (points.at(i) != '-') return hyphen;
  }
  return space;
}

}  // namespace

std::vector<Text> Wrap(const Text& text, size_t width, bool break_long_words, bool break_on_hyphens, Budget& budget) {
  std::vector<Text> lines;
  if (!budget.SpendText(text.size())) return lines;
  std::vector<Text> chunks = Chunker(text, break_on_hyphens).Run();
  if (!budget.SpendItems(chunks.size())) return lines;
  std::reverse(chunks.begin(), chunks.end());
  while (!chunks.empty() && budget.Spend()) {
    std::vector<Text> line;
    size_t length = 0;
    if (!lines.empty() && AllBlank(chunks.back())) chunks.pop_back();
    while (!chunks.empty() && length + Count(chunks.back()) <= width) {
      length += Count(chunks.back());
      line.push_back(std::move(chunks.back()));
      chunks.pop_back();
    }
    if (!chunks.empty() && Count(chunks.back()) > width) {
      const size_t space = width - length;
      if (break_long_words) {
        const Text chunk = std::move(chunks.back());
        chunks.pop_back();
        if (!budget.SpendBytes(chunk.size())) return lines;
        const size_t part = CodePoints(chunk.bytes()).offset(PartOf(chunk, space, break_on_hyphens));
        line.push_back(chunk.Slice(0, part));
        chunks.push_back(chunk.Slice(part, chunk.size()));
      } else if (line.empty()) {
        line.push_back(std::move(chunks.back()));
        chunks.pop_back();
      }
    }
    if (!line.empty() && AllBlank(line.back())) line.pop_back();
    if (line.empty()) continue;
    Text joined;
    for (const Text& part : line) joined.Append(part);
    lines.push_back(std::move(joined));
  }
  return lines;
}

}  // namespace ebbinghaus::jinja
