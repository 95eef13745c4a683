// Filters over text.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/markup.h"
#include "server/jinja/printing.h"
#include "server/jinja/strings.h"
#include "server/jinja/wrap.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<Value>;

// markupsafe's soft_str: what is a string stays as it is.
absl::StatusOr<Text> Soft(const Value& value, Budget& budget) {
  if (value.text()) return *value.text();
  return Str(value, budget);
}

// What needs a string and takes no other.
absl::StatusOr<const Text*> MustBeText(const Value& value, std::string_view filter) {
  if (value.text()) return value.text();
  return Refused(absl::StrCat(std::string(filter), " needs a string, not ", value.TypeName()));
}

template <Case to>
Result Cased(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Soft(input, runtime.budget));
  if (!runtime.budget.SpendText(3 * text.size())) return runtime.budget.status();
  return Value(ChangeCase(text, to));
}

// jinja2's own idea of words: they begin behind blanks, hyphens and opening brackets.
Result Title(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Soft(input, runtime.budget));
  const std::string& s = text.bytes();
  if (!runtime.budget.SpendText(3 * s.size())) return runtime.budget.status();
  const auto splits = [](char32_t c) { return IsSpace(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<'; };
  Text out;
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const bool between = splits(DecodeAt(s, &at));
    const size_t first = at;
    for (size_t next = at; next < s.size() && splits(DecodeAt(s, &next)) == between;) at = next;
    out.Append(ChangeCase(text.Slice(begin, first), Case::kUpper));
    out.Append(ChangeCase(text.Slice(first, at), Case::kLower));
  }
  return Value(std::move(out));
}

Result String(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Text text, Soft(input, runtime.budget));
  return Value(std::move(text));
}

Result Trim(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Soft(input, runtime.budget));
  const Text* characters = nullptr;
  if (a[0] != nullptr && !a[0]->none()) {
    EBB_ASSIGN_OR_RETURN(characters, TextArgument(*a[0], "chars"));
  }
  return Value(Strip(text, characters, true, true));
}

Result ReplaceAll(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Str(input, runtime.budget));
  EBB_ASSIGN_OR_RETURN(const Text from, Str(*a[0], runtime.budget));
  EBB_ASSIGN_OR_RETURN(const Text to, Str(*a[1], runtime.budget));
  int64_t most = -1;
  if (a[2] != nullptr && !a[2]->none()) {
    EBB_ASSIGN_OR_RETURN(most, IntegerArgument(*a[2], "count"));
  }
  EBB_ASSIGN_OR_RETURN(Text out, Replace(text, from, to, most, runtime.budget));
  return Value(std::move(out));
}

Result Center(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Soft(input, runtime.budget));
  EBB_ASSIGN_OR_RETURN(const int64_t width, a[0] ? IntegerArgument(*a[0], "width") : absl::StatusOr<int64_t>(80));
  EBB_ASSIGN_OR_RETURN(Text out, Padded(text, width, Text(" "), Side::kBoth, runtime.budget));
  return Value(std::move(out));
}

Result Indent(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text* given, MustBeText(input, "indent"));
  Text space(std::string(4, ' '));
  if (a[0] != nullptr && a[0]->text()) {
    space = *a[0]->text();
  } else if (a[0] != nullptr) {
    EBB_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(*a[0], "width"));
    EBB_ASSIGN_OR_RETURN(space, Repeated(Text(" "), width, runtime.budget));
  }
  if (given->markup() && !space.markup()) space = Escape(space);
  const bool first = a[1] != nullptr && a[1]->Truth(), blank = a[2] != nullptr && a[2]->Truth();
  Text all = *given;
  all.Append("\n", false);
  const std::vector<Text> lines = SplitLines(all, false, runtime.budget);
  Text out = Text().WithMarkup(given->markup());
  if (first) out.Append(space);
  for (size_t i = 0; i < lines.size(); ++i) {
    const size_t size = lines[i].size() + space.size() + 1;
    if (!runtime.budget.SpendText(out.size() + size > Budget::kMaxText ? Budget::kMaxText + 1 : size)) return runtime.budget.status();
    if (i > 0) out.Append("\n", false);
    if (i > 0 && (blank || !lines[i].empty())) out.Append(space);
    out.Append(lines[i]);
  }
  return Value(std::move(out));
}

Result Truncate(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text* text, MustBeText(input, "truncate"));
  EBB_ASSIGN_OR_RETURN(const int64_t length, a[0] ? IntegerArgument(*a[0], "length") : absl::StatusOr<int64_t>(255));
  const Text dots("...");
  const Text* end = &dots;
  if (a[2] != nullptr) {
    EBB_ASSIGN_OR_RETURN(end, TextArgument(*a[2], "end"));
  }
  EBB_ASSIGN_OR_RETURN(const int64_t leeway, a[3] && !a[3]->none() ? IntegerArgument(*a[3], "leeway") : absl::StatusOr<int64_t>(5));
  const CodePoints points(text->bytes());
  const auto end_size = static_cast<int64_t>(CodePoints(end->bytes()).count());
  if (length < end_size) return Refused(absl::StrCat("truncate: expected length >= ", end_size));
  if (leeway < 0) return Refused("truncate: expected leeway >= 0");
  const auto count = static_cast<int64_t>(points.count());
  if (count <= length || count - length <= leeway) return Value(*text);
  Text out = text->Slice(0, points.offset(static_cast<size_t>(length - end_size)));
  if (a[1] == nullptr || !a[1]->Truth()) {
    const size_t space = out.bytes().rfind(' ');
    if (space != std::string::npos) out = out.Slice(0, space);
  }
  return Binary("+", Value(std::move(out)), Value(*end), runtime);
}

Result WordCount(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Soft(input, runtime.budget));
  int64_t count = 0;
  bool in_word = false;
  for (size_t at = 0; at < text.size();) {
    const bool word = IsWord(DecodeAt(text.bytes(), &at));
    count += word && !in_word;
    in_word = word;
  }
  return Value(count);
}

Result WordWrap(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text* text, MustBeText(input, "wordwrap"));
  EBB_ASSIGN_OR_RETURN(const int64_t width, a[0] ? IntegerArgument(*a[0], "width") : absl::StatusOr<int64_t>(79));
  if (width <= 0) return Refused("wordwrap: the width must be above 0");
  Text newline("\n");
  if (a[2] != nullptr && !a[2]->none()) {
    EBB_ASSIGN_OR_RETURN(const Text* given, TextArgument(*a[2], "wrapstring"));
    newline = *given;
  }
  const bool long_words = a[1] == nullptr || a[1]->Truth(), hyphens = a[3] == nullptr || a[3]->Truth();
  Text out;
  bool first = true;
  for (const Text& paragraph : SplitLines(*text, false, runtime.budget)) {
    std::vector<Text> lines = Wrap(paragraph, static_cast<size_t>(width), long_words, hyphens, runtime.budget);
    if (lines.empty()) lines.emplace_back();
    for (const Text& line : lines) {
      const size_t size = line.size() + newline.size();
      if (!runtime.budget.SpendText(out.size() + size > Budget::kMaxText ? Budget::kMaxText + 1 : size)) return runtime.budget.status();
      if (!first) out.Append(newline);
      first = false;
      out.Append(line);
    }
  }
  return Value(std::move(out));
}

Result Format(const Value& input, const Arguments& arguments, Runtime& runtime) {
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    return Refused("format: can't handle positional and keyword arguments at the same time");
  }
  EBB_ASSIGN_OR_RETURN(const Text form, Soft(input, runtime.budget));
  Value values = Value::Tuple(arguments.positional);
  if (!arguments.named.empty()) {
    Dict named;
    for (const auto& [name, value] : arguments.named) named.Set(name, value);
    values = Value::Of(std::move(named));
  }
  EBB_ASSIGN_OR_RETURN(Text text, FormatPercent(form, values, runtime));
  return Value(std::move(text));
}

}  // namespace

absl::Span<const Filter> TextFilters() {
  static const Filter kFilters[] = {
      {"upper", {}, Cased<Case::kUpper>}, {"lower", {}, Cased<Case::kLower>}, {"capitalize", {}, Cased<Case::kCapitalize>},
      {"title", {}, Title}, {"string", {}, String}, {"trim", {"chars"}, Trim}, {"replace", {"old,new,count", 2}, ReplaceAll},
      {"center", {"width"}, Center}, {"indent", {"width,first,blank"}, Indent},
      {"truncate", {"length,killwords,end,leeway"}, Truncate}, {"wordcount", {}, WordCount},
      {"wordwrap", {"width,break_long_words,wrapstring,break_on_hyphens"}, WordWrap}, {"format", {}, nullptr, Format}};
  return kFilters;
}

}  // namespace ebbinghaus::jinja
