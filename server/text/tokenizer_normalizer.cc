#include "server/text/tokenizer_normalizer.h"

#include <utility>

#include "server/text/tokenizer_definition.h"

namespace ebbinghaus::text {
namespace {

// Collects a rewritten text together with its marks.
class Rewriter {
 public:
  explicit Rewriter(const MarkedText& source) : source_(source) { out_.all = source.all; }

  // `content` takes the place of source bytes [begin, end).
  void Put(std::string_view content, size_t begin, size_t end) {
    out_.text += content;
    if (!source_.marks.empty()) {
      out_.marks.append(content.size(), source_.Allowed(begin, end) ? '\1' : '\0');
    }
  }
  void Keep(size_t begin, size_t end) {
    out_.text.append(source_.text, begin, end - begin);
    if (!source_.marks.empty()) out_.marks.append(source_.marks, begin, end - begin);
  }
  MarkedText Take() { return std::move(out_); }

 private:
  const MarkedText& source_;
  MarkedText out_;
};

MarkedText Apply(const NormalizationForm& form, MarkedText source) {
  if (source.marks.empty()) {
    source.text = Normalize(form, source.text);
    return source;
  }
  // Stretch by stretch, cut where no normalization reaches across, so that the marks can follow.
  Rewriter out(source);
  const std::string_view text = source.text;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin + DecodeUtf8(text.substr(begin)).size;
    while (end < text.size()) {
      const Utf8Step step = DecodeUtf8(text.substr(end));
      if (HasNormalizationBoundaryBefore(form, step.code_point)) break;
      end += step.size;
    }
    const std::string_view stretch = text.substr(begin, end - begin);
    const std::string normalized = Normalize(form, stretch);
    if (normalized == stretch) {
      out.Keep(begin, end);
    } else {
      out.Put(normalized, begin, end);
    }
    begin = end;
  }
  return out.Take();
}

MarkedText Apply(const PrependNormalizer& step, MarkedText source) {
  if (source.text.empty()) return source;
  Rewriter out(source);
  out.Put(step.prefix, 0, 1);
  out.Keep(0, source.text.size());
  return out.Take();
}

MarkedText Apply(const ReplaceNormalizer& step, MarkedText source) {
  std::vector<TextRange> matches;
  if (const auto* regex = std::get_if<Regex>(&step.pattern)) {
    regex->FindAll(source.text, matches);
  } else {
    const std::string& needle = std::get<std::string>(step.pattern);
    for (size_t at = source.text.find(needle); !needle.empty() && at != std::string::npos;
         at = source.text.find(needle, at + needle.size())) {
      matches.push_back({at, at + needle.size()});
    }
  }
  Rewriter out(source);
  size_t at = 0;
  for (const TextRange& match : matches) {
    out.Keep(at, match.begin);
    out.Put(step.content, match.begin, match.end);
    at = match.end;
  }
  out.Keep(at, source.text.size());
  return out.Take();
}

MarkedText Apply(const TrimNormalizer& step, MarkedText source) {
  const std::string_view text = source.text;
  size_t begin = 0, end = text.size();
  while (step.left && begin < end) {
    const Utf8Step first = DecodeUtf8(text.substr(begin));
    if (!IsWhitespace(first.code_point)) break;
    begin += first.size;
  }
  while (step.right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) --last;
    if (!IsWhitespace(DecodeUtf8(text.substr(last)).code_point)) break;
    end = last;
  }
  return source.Part(begin, end);
}

// What a character becomes; `bytes` are its own.
void AppendMapped(CharacterNormalizer step, char32_t c, std::string_view bytes, std::string& out) {
  switch (step) {
    case CharacterNormalizer::kLowercase:
      return AppendLowercase(c, out);
    case CharacterNormalizer::kStripMarks:
      if (!IsMark(c)) out += bytes;
      return;
    case CharacterNormalizer::kStripNonspacingMarks:
      if (!IsNonspacingMark(c)) out += bytes;
      return;
    case CharacterNormalizer::kNmt:
      if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
          c == 0x9F) {
        return;
      }
      if (c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
          (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
          c == 0xFEFF || c == 0xFFFD) {
        out += ' ';
      } else {
        out += bytes;
      }
      return;
    case CharacterNormalizer::kBertClean: {
      const bool space = c == '\t' || c == '\n' || c == '\r';
      if (c == 0 || c == 0xFFFD || (!space && IsOther(c))) return;
      if (IsWhitespace(c)) {
        out += ' ';
      } else {
        out += bytes;
      }
      return;
    }
    case CharacterNormalizer::kBertHan:
      if (IsHan(c)) out += ' ';
      out += bytes;
      if (IsHan(c)) out += ' ';
      return;
    case CharacterNormalizer::kByteLevel:
      AppendByteLevel(bytes, out);
      return;
  }
}

MarkedText Apply(const CharacterNormalizer& step, MarkedText source) {
  Rewriter out(source);
  std::string mapped;
  for (size_t begin = 0; begin < source.text.size();) {
    const std::string_view rest = std::string_view(source.text).substr(begin);
    const Utf8Step character = DecodeUtf8(rest);
    mapped.clear();
    AppendMapped(step, character.code_point, rest.substr(0, character.size), mapped);
    out.Put(mapped, begin, begin + character.size);
    begin += character.size;
  }
  return out.Take();
}

MarkedText Apply(const CharsmapNormalizer& step, MarkedText source) {
  constexpr size_t kLongestGrapheme = 5;
  Rewriter out(source);
  const std::string_view text = source.text;
  size_t begin = 0;
  for (const size_t end : GraphemeEnds(text)) {
    const std::string_view grapheme = text.substr(begin, end - begin);
    const Charsmap::Match whole =
        grapheme.size() <= kLongestGrapheme ? step.map->Shortest(grapheme) : Charsmap::Match{};
    if (whole.size > 0) {  // whatever it covers, the reference replaces all
      out.Put(whole.replacement, begin, end);
      begin = end;
      continue;
    }
    while (begin < end) {
      const size_t size = DecodeUtf8(text.substr(begin)).size;
      const Charsmap::Match match = step.map->Shortest(text.substr(begin, size));
      if (match.size > 0) {
        out.Put(match.replacement, begin, begin + size);
      } else {
        out.Keep(begin, begin + size);
      }
      begin += size;
    }
  }
  return out.Take();
}

MarkedText Apply(const SentencePieceNormalizer& step, MarkedText source) {
  constexpr std::string_view kSpaceMark = "\u2581";
  Rewriter out(source);
  const std::string_view text = source.text;
  bool begun = false;    // the space before the text is there
  bool in_word = false;  // the last character was no space
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    Charsmap::Match match = step.map != nullptr ? step.map->Longest(rest) : Charsmap::Match{};
    if (match.size == 0) {
      match.size = DecodeUtf8(rest).size;
      match.replacement = rest.substr(0, match.size);
    }
    std::string normalized;
    for (const char c : match.replacement) {
      if (c == ' ') {
        in_word = false;
        if (!step.merge_spaces) normalized += kSpaceMark;
        continue;
      }
      if (!in_word && ((step.add_prefix && !begun) || step.merge_spaces)) {
        normalized += kSpaceMark;
        begun = true;
      }
      in_word = true;
      normalized += c;
    }
    out.Put(normalized, at, at + match.size);
    at += match.size;
  }
  return out.Take();
}

}  // namespace

bool MarkedText::Allowed(size_t begin, size_t end) const {
  if (marks.empty()) return all;
  return std::string_view(marks).substr(begin, end - begin).find('\0') == std::string_view::npos;
}

MarkedText MarkedText::Part(size_t begin, size_t end) const {
  return {text.substr(begin, end - begin), marks.empty() ? "" : marks.substr(begin, end - begin),
          all};
}

MarkedText Normalizer::Run(MarkedText text) const {
  for (const NormalizerStep& step : steps_) {
    text = std::visit([&](const auto& s) { return Apply(s, std::move(text)); }, step);
  }
  return text;
}

}  // namespace ebbinghaus::text
