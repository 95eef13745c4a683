#include "server/jinja/markup.h"

#include <cctype>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "server/jinja/builtins.h"

namespace ebbinghaus::jinja {
namespace {

// Cuts out everything from `open` to `close`, again and again.
Text Without(Text text, std::string_view open, std::string_view close, Budget& budget) {
  while (budget.ok()) {
    const size_t begin = FindIn(text.bytes(), open);
    const size_t end = begin == std::string::npos ? begin : FindIn(text.bytes(), close, begin);
    if (end == std::string::npos || !budget.Spend() || !budget.SpendText(text.size())) break;
    Text rest = text.Slice(0, begin);
    rest.Append(text, end + close.size(), text.size());
    text = std::move(rest);
  }
  return text;
}

Text SpacesJoined(const Text& text) {
  Text out;
  const std::string& bytes = text.bytes();
  bool space = false;
  for (size_t at = 0; at < bytes.size();) {
    const size_t begin = at;
    if (IsSpace(DecodeAt(bytes, &at))) {
      space = true;
      continue;
    }
    if (space && !out.empty()) out.Append(" ", text.marked(begin));
    space = false;
    out.Append(text, begin, at);
  }
  return out;
}

// The character that an entity at `at` (a '&') stands for and the end of it; 0 if there is none.
absl::StatusOr<char32_t> Entity(std::string_view s, size_t* at) {
  const size_t begin = *at + 1;
  if (begin >= s.size()) return 0;
  if (s[begin] == '#') {
    const bool hex = begin + 1 < s.size() && (s[begin + 1] | 0x20) == 'x';
    size_t end = begin + 1 + hex;
    const size_t digits = end;
    while (end < s.size() && (hex ? std::isxdigit(static_cast<unsigned char>(s[end])) : std::isdigit(static_cast<unsigned char>(s[end])))) ++end;
    if (end == digits) return 0;
    if (end - digits > 6) return Refused("striptags: a number that is no character");
    const auto c = static_cast<char32_t>(std::strtoul(std::string(s.substr(digits, end - digits)).c_str(), nullptr, hex ? 16 : 10));
    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff) return Refused("striptags: a number that is no character");
    *at = end + (end < s.size() && s[end] == ';');
    return c;
  }
  static constexpr std::pair<std::string_view, char32_t> kNames[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}};
  for (const auto& [name, c] : kNames) {
    if (s.substr(begin, name.size()) != name) continue;
    *at = begin + name.size();
    return c;
  }
  if (std::isalnum(static_cast<unsigned char>(s[begin]))) return Refused("striptags: an entity that is not supported");
  return 0;
}

}  // namespace

Text Escape(const Text& text) {
  if (text.markup()) return text;
  Text out;
  const std::string& bytes = text.bytes();
  size_t kept = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const char* entity = nullptr;
    switch (bytes[i]) {
      case '&': entity = "&amp;"; break;
      case '<': entity = "&lt;"; break;
      case '>': entity = "&gt;"; break;
      case '\'': entity = "&#39;"; break;
      case '"': entity = "&#34;"; break;
      default: continue;
    }
    out.Append(text, kept, i);
    out.Append(entity, text.marked(i));
    kept = i + 1;
  }
  out.Append(text, kept, bytes.size());
  return out.WithMarkup(true);
}

absl::StatusOr<Text> StripTags(const Text& text, Budget& budget) {
  Text plain = Without(text.WithMarkup(false), "<!--", "-->", budget);
  plain = SpacesJoined(Without(std::move(plain), "<", ">", budget));
  Text out;
  const std::string& bytes = plain.bytes();
  for (size_t at = 0; at < bytes.size();) {
    const size_t begin = at;
    absl::StatusOr<char32_t> c = bytes[at] == '&' ? Entity(bytes, &at) : 0;
    if (!c.ok()) return c.status();
    if (*c == 0) {
      at = begin + 1;
      out.Append(plain, begin, at);
      continue;
    }
    std::string spelled;
    AppendCodePoint(*c, spelled);
    out.Append(spelled, plain.marked(begin));
  }
  return out;
}

}  // namespace ebbinghaus::jinja
