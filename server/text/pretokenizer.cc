#include "server/text/pretokenizer.h"

#include <utility>

#include "server/text/tokenizer_definition.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

// Ranges that cover a text from end to end, each a match or what lies between two.
struct Stretch {
  TextRange range;
  bool match = false;
};

std::vector<Stretch> Cover(const std::vector<TextRange>& matches, size_t size) {
  std::vector<Stretch> cover;
  cover.reserve(2 * matches.size() + 1);
  size_t at = 0;
  for (const TextRange& match : matches) {
    if (match.begin > at) cover.push_back({{at, match.begin}, false});
    cover.push_back({match, true});
    at = match.end;
  }
  if (at < size) cover.push_back({{at, size}, false});
  return cover;
}

void FindString(std::string_view text, std::string_view needle, std::vector<TextRange>& out) {
  if (needle.empty()) return;
  for (size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size())) {
    out.push_back({at, at + needle.size()});
  }
}

template <typename Predicate>
void FindCharacters(std::string_view text, Predicate matches, std::vector<TextRange>& out) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = DecodeUtf8(text.substr(at));
    if (matches(step.code_point)) out.push_back({at, at + step.size});
    at += step.size;
  }
}

void Emit(TextRange range, std::vector<TextRange>& out) {
  if (range.end > range.begin) out.push_back(range);
}

// Turns the cover of one piece into its new pieces.
void ApplyBehavior(const std::vector<Stretch>& cover, SplitBehavior behavior, size_t offset,
                   std::vector<TextRange>& out) {
  std::vector<TextRange> result;
  bool previous_match = false;
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Stretch& s : cover) {
        if (!s.match) result.push_back(s.range);
      }
      break;
    case SplitBehavior::kIsolated:
      for (const Stretch& s : cover) result.push_back(s.range);
      break;
    case SplitBehavior::kContiguous:
      for (const Stretch& s : cover) {
        if (!result.empty() && s.match == previous_match) {
          result.back().end = s.range.end;
        } else {
          result.push_back(s.range);
        }
        previous_match = s.match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Stretch& s : cover) {
        if (s.match && !previous_match && !result.empty()) {
          result.back().end = s.range.end;
        } else {
          result.push_back(s.range);
        }
        previous_match = s.match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto s = cover.rbegin(); s != cover.rend(); ++s) {
        if (s->match && !previous_match && !result.empty()) {
          result.back().begin = s->range.begin;
        } else {
          result.push_back(s->range);
        }
        previous_match = s->match;
      }
      for (auto range = result.rbegin(); range != result.rend(); ++range) {
        Emit({range->begin + offset, range->end + offset}, out);
      }
      return;
  }
  for (const TextRange& range : result) Emit({range.begin + offset, range.end + offset}, out);
}

// Splits every piece of `text` where `find` finds something.
template <typename Find>
void SplitPieces(PreTokenizedText& text, SplitBehavior behavior, bool invert, Find find) {
  std::vector<TextRange> pieces;
  std::vector<TextRange> matches;
  for (const TextRange& piece : text.pieces) {
    const auto part = std::string_view(text.text).substr(piece.begin, piece.end - piece.begin);
    matches.clear();
    find(part, matches);
    if (behavior == SplitBehavior::kIsolated) {  // the common case, without the cover
      size_t at = 0;
      for (const TextRange& match : matches) {
        Emit({piece.begin + at, piece.begin + match.begin}, pieces);
        Emit({piece.begin + match.begin, piece.begin + match.end}, pieces);
        at = match.end;
      }
      Emit({piece.begin + at, piece.end}, pieces);
      continue;
    }
    std::vector<Stretch> cover = Cover(matches, part.size());
    if (invert) {
      for (Stretch& s : cover) s.match = !s.match;
    }
    ApplyBehavior(cover, behavior, piece.begin, pieces);
  }
  text.pieces = std::move(pieces);
}

// Rewrites every piece; the others' bytes are dropped.
template <typename Rewrite>
void RewritePieces(PreTokenizedText& text, Rewrite rewrite) {
  PreTokenizedText result;
  result.text.reserve(text.text.size() + text.pieces.size());
  bool first = true;
  for (const TextRange& piece : text.pieces) {
    const size_t begin = result.text.size();
    rewrite(std::string_view(text.text).substr(piece.begin, piece.end - piece.begin), first,
            result.text);
    Emit({begin, result.text.size()}, result.pieces);
    first = false;
  }
  text = std::move(result);
}

void Run(const SplitStep& step, bool, EncodeStop& stop, PreTokenizedText& text) {
  SplitPieces(text, step.behavior, step.invert,
              [&](std::string_view part, std::vector<TextRange>& out) {
                if (const auto* regex = std::get_if<Regex>(&step.pattern)) {
                  regex->FindAll(part, out, &stop);
                } else {
                  FindString(part, std::get<std::string>(step.pattern), out);
                }
              });
}

void Run(const DigitsStep& step, bool, EncodeStop&, PreTokenizedText& text) {
  const auto behavior = step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous;
  SplitPieces(text, behavior, false, [](std::string_view part, std::vector<TextRange>& out) {
    FindCharacters(part, IsNumeric, out);
  });
}

void Run(const PunctuationStep& step, bool, EncodeStop&, PreTokenizedText& text) {
  SplitPieces(text, step.behavior, false, [](std::string_view part, std::vector<TextRange>& out) {
    FindCharacters(part, IsPunctuation, out);
  });
}

void Run(const WhitespaceStep&, bool, EncodeStop&, PreTokenizedText& text) {
  SplitPieces(text, SplitBehavior::kRemoved, false,
              [](std::string_view part, std::vector<TextRange>& out) {
                FindCharacters(part, IsWhitespace, out);
              });
}

// What stands before the first character that has a script is dropped, as the reference does.
void Run(const ScriptsStep&, bool, EncodeStop&, PreTokenizedText& text) {
  std::vector<TextRange> pieces;
  for (const TextRange& piece : text.pieces) {
    int last = -1;
    size_t begin = piece.end;
    for (size_t at = piece.begin; at < piece.end;) {
      const Utf8Step step = DecodeUtf8(std::string_view(text.text).substr(at));
      const int script = ScriptClass(step.code_point);
      if (script >= 0 && script != last) {
        if (last >= 0) Emit({begin, at}, pieces);
        begin = at;
        last = script;
      }
      at += step.size;
    }
    Emit({begin, piece.end}, pieces);
  }
  text.pieces = std::move(pieces);
}

void Run(const FixedLengthStep& step, bool, EncodeStop&, PreTokenizedText& text) {
  std::vector<TextRange> pieces;
  for (const TextRange& piece : text.pieces) {
    size_t begin = piece.begin, characters = 0;
    for (size_t at = piece.begin; at < piece.end;) {
      at += DecodeUtf8(std::string_view(text.text).substr(at)).size;
      if (++characters % step.characters != 0 && at < piece.end) continue;
      Emit({begin, at}, pieces);
      begin = at;
    }
  }
  text.pieces = std::move(pieces);
}

void Run(const MetaspaceStep& step, bool at_start, EncodeStop&, PreTokenizedText& text) {
  RewritePieces(text, [&](std::string_view part, bool first, std::string& out) {
    const bool wanted = step.prepend == MetaspaceStep::Prepend::kAlways ||
                        (step.prepend == MetaspaceStep::Prepend::kFirst && at_start && first);
    const bool there =
        part.front() == ' ' || part.substr(0, step.replacement.size()) == step.replacement;
    if (wanted && !there) out += step.replacement;
    for (const char c : part) {
      if (c == ' ') {
        out += step.replacement;
      } else {
        out += c;
      }
    }
  });
  if (!step.split) return;
  SplitPieces(text, SplitBehavior::kMergedWithNext, false,
              [&](std::string_view part, std::vector<TextRange>& out) {
                FindString(part, step.replacement, out);
              });
}

void Run(const PrefixSpaceStep&, bool, EncodeStop&, PreTokenizedText& text) {
  RewritePieces(text, [](std::string_view part, bool, std::string& out) {
    if (part.front() != ' ') out += ' ';
    out += part;
  });
}

void Run(const SpellBytesStep&, bool, EncodeStop&, PreTokenizedText& text) {
  RewritePieces(text,
                [](std::string_view part, bool, std::string& out) { AppendByteLevel(part, out); });
}

}  // namespace

PreTokenizedText PreTokenizer::Run(std::string text, bool at_start, EncodeStop& stop) const {
  PreTokenizedText result;
  if (!text.empty()) result.pieces.push_back({0, text.size()});
  result.text = std::move(text);
  for (const PreTokenizerStep& step : steps_) {
    std::visit([&](const auto& s) { text::Run(s, at_start, stop, result); }, step);
  }
  return result;
}

}  // namespace ebbinghaus::text
