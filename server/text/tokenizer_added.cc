#include "server/text/tokenizer_added.h"

#include <algorithm>

#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

// The code point that ends at `end`. Requires: end > 0, valid UTF-8 before it.
Utf8Step DecodeBefore(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return DecodeUtf8(text.substr(begin, end - begin));
}

bool IsWordBefore(std::string_view text, size_t at) {
  return at > 0 && IsWord(DecodeBefore(text, at).code_point);
}

bool IsWordAfter(std::string_view text, size_t at) {
  return at < text.size() && IsWord(DecodeUtf8(text.substr(at)).code_point);
}

size_t SkipSpaceBefore(std::string_view text, size_t at, size_t lowest) {
  while (at > lowest) {
    const Utf8Step step = DecodeBefore(text, at);
    if (!IsWhitespace(step.code_point)) break;
    at -= step.size;
  }
  return std::max(at, lowest);
}

size_t SkipSpaceAfter(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Step step = DecodeUtf8(text.substr(at));
    if (!IsWhitespace(step.code_point)) break;
    at += step.size;
  }
  return at;
}

}  // namespace

void AddedTokenMatcher::Add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  uint32_t node = 0;
  for (const char c : pattern) {
    auto& next = nodes_[node].next;
    auto edge = std::lower_bound(next.begin(), next.end(), std::pair<char, uint32_t>(c, 0));
    if (edge == next.end() || edge->first != c) {
      const auto created = static_cast<uint32_t>(nodes_.size());
      next.insert(edge, {c, created});
      nodes_.emplace_back();  // `next` and `edge` are dead from here on
      if (node == 0) first_[static_cast<uint8_t>(c)] = created;
      node = created;
    } else {
      node = edge->second;
    }
  }
  if (nodes_[node].token >= 0) return;  // the first of two equal patterns counts
  nodes_[node].token = static_cast<int64_t>(tokens_.size());
  tokens_.push_back({token.id, token.single_word, token.lstrip, token.rstrip, token.special});
}

AddedTokenMatcher::Match AddedTokenMatcher::LongestAt(const MarkedText& text, size_t begin) const {
  Match best;
  uint32_t node = first_[static_cast<uint8_t>(text.text[begin])];
  for (size_t end = begin + 1; node != 0; ++end) {
    if (const int64_t token = nodes_[node].token; token >= 0) {
      const bool allowed = !tokens_[token].special || text.Allowed(begin, end);
      const bool straddles = !allowed && !text.marks.empty() &&
                             std::string_view(text.marks).substr(begin, end - begin).find('\1') !=
                                 std::string_view::npos;
      if (!straddles) best = {end, token, allowed};
    }
    if (end == text.text.size()) break;
    const auto& next = nodes_[node].next;
    const char c = text.text[end];
    const auto edge = std::lower_bound(next.begin(), next.end(), std::pair<char, uint32_t>(c, 0));
    node = edge != next.end() && edge->first == c ? edge->second : 0;
  }
  return best;
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::Split(const MarkedText& marked) const {
  std::vector<Part> parts;
  const std::string_view text = marked.text;
  size_t done = 0;   // where the last part ends
  TextRange spaces;  // the white space skipped last, so that a run of it is walked once
  for (size_t at = 0; at < text.size() && !empty();) {
    const Match match = LongestAt(marked, at);
    if (match.token < 0) {
      ++at;
      continue;
    }
    const Token& token = tokens_[match.token];
    size_t begin = at, end = match.end;
    at = match.end;
    if (!match.allowed) continue;
    if (token.single_word && (IsWordBefore(text, begin) || IsWordAfter(text, end))) continue;
    if (token.lstrip) begin = SkipSpaceBefore(text, begin, done);
    if (token.rstrip) {
      if (end < spaces.begin || end >= spaces.end) spaces = {end, SkipSpaceAfter(text, end)};
      end = spaces.end;
    }
    if (done < begin) parts.push_back({done, begin, std::nullopt});
    parts.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), std::nullopt});
  return parts;
}

}  // namespace ebbinghaus::text
