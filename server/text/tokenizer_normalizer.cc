#include "server/text/tokenizer_normalizer.h"

#include <utility>

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
