// The methods of Python's str.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/markup.h"
#include "server/jinja/strings.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using Method = Result (*)(const Text& self, Bound a, Runtime& runtime);

bool Given(const Value* value) { return value != nullptr && !value->none(); }

absl::StatusOr<int64_t> IntegerOr(const Value* value, int64_t fallback, std::string_view what) {
  return value == nullptr ? fallback : IntegerArgument(*value, what);
}

template <Case to>
Result Cased(const Text& self, Bound, Runtime& runtime) {
  if (!runtime.budget.SpendText(3 * self.size())) return runtime.budget.status();
  return Value(ChangeCase(self, to));
}

template <bool left, bool right>
Result Stripped(const Text& self, Bound a, Runtime&) {
  if (!Given(a[0])) return Value(Strip(self, nullptr, left, right));
  EBB_ASSIGN_OR_RETURN(const Text* characters, TextArgument(*a[0], "chars"));
  return Value(Strip(self, characters, left, right));
}

template <bool from_right>
Result SplitUp(const Text& self, Bound a, Runtime& runtime) {
  const Text* separator = nullptr;
  if (Given(a[0])) {
    EBB_ASSIGN_OR_RETURN(separator, TextArgument(*a[0], "sep"));
  }
  EBB_ASSIGN_OR_RETURN(const int64_t most, IntegerOr(a[1], -1, "maxsplit"));
  EBB_ASSIGN_OR_RETURN(std::vector<Text> parts, Split(self, separator, most, from_right, runtime.budget));
  return ListOf(std::move(parts));
}

Result Lines(const Text& self, Bound a, Runtime& runtime) {
  return ListOf(SplitLines(self, a[0] != nullptr && a[0]->Truth(), runtime.budget));
}

// The byte range that [start, end) in characters is; false where start lies behind the end.
absl::StatusOr<bool> Range_(const Text& self, const Value* start, const Value* end, const CodePoints& points, size_t* from, size_t* to) {
  const auto size = static_cast<int64_t>(points.count());
  int64_t ends[2] = {0, size};
  const Value* given[2] = {start, end};
  for (int i = 0; i < 2; ++i) {
    if (!Given(given[i])) continue;
    EBB_ASSIGN_OR_RETURN(ends[i], IntegerArgument(*given[i], i == 0 ? "start" : "end"));
    if (ends[i] < 0) ends[i] = std::max<int64_t>(0, ends[i] < -size ? 0 : ends[i] + size);
  }
  static_cast<void>(self);
  if (ends[0] > size) return false;
  ends[1] = std::min(ends[1], size);
  if (ends[0] > ends[1]) return false;
  *from = points.offset(static_cast<size_t>(ends[0]));
  *to = points.offset(static_cast<size_t>(ends[1]));
  return true;
}

// find, rfind, index, rindex.
template <bool from_right, bool must>
Result Find(const Text& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text* part, TextArgument(*a[0], "sub"));
  if (!runtime.budget.SpendText(self.size())) return runtime.budget.status();
  const CodePoints points(self.bytes());
  size_t from = 0, to = 0, found = std::string::npos;
  EBB_ASSIGN_OR_RETURN(const bool inside, Range_(self, a[1], a[2], points, &from, &to));
  if (inside) {
    const std::string_view within = std::string_view(self.bytes()).substr(from, to - from);
    found = from_right ? FindLastIn(within, part->bytes(), 0, within.size()) : FindIn(within, part->bytes());
  }
  if (found == std::string::npos) return must ? Result(Refused("substring not found")) : Value(int64_t{-1});
  return Value(static_cast<int64_t>(points.IndexOf(from + found)));
}

Result Count(const Text& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text* part, TextArgument(*a[0], "sub"));
  if (!runtime.budget.SpendText(self.size())) return runtime.budget.status();
  const CodePoints points(self.bytes());
  size_t from = 0, to = 0;
  EBB_ASSIGN_OR_RETURN(const bool inside, Range_(self, a[1], a[2], points, &from, &to));
  if (!inside) return Value(int64_t{0});
  if (part->empty()) return Value(static_cast<int64_t>(points.IndexOf(to) - points.IndexOf(from) + 1));
  const std::string_view within = std::string_view(self.bytes()).substr(0, to);
  int64_t count = 0;
  for (size_t found; runtime.budget.Spend() && (found = FindIn(within, part->bytes(), from)) != within.npos; from = found + part->size()) ++count;
  return Value(count);
}

// startswith, endswith: a text or a tuple of them.
template <bool at_end>
Result Affix(const Text& self, Bound a, Runtime&) {
  const CodePoints points(self.bytes());
  size_t from = 0, to = 0;
  EBB_ASSIGN_OR_RETURN(const bool inside, Range_(self, a[1], a[2], points, &from, &to));
  const List one = {*a[0]};
  const List& all = a[0]->tuple() ? *a[0]->tuple() : one;
  const std::string_view within = inside ? std::string_view(self.bytes()).substr(from, to - from) : std::string_view();
  for (const Value& affix : all) {
    EBB_ASSIGN_OR_RETURN(const Text* text, TextArgument(affix, "prefix or suffix"));
    const std::string& s = text->bytes();
    if (inside && s.size() <= within.size() && within.substr(at_end ? within.size() - s.size() : 0, s.size()) == s) return Value(true);
  }
  return Value(false);
}

Result ReplaceAll(const Text& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text* from, TextArgument(*a[0], "old"));
  EBB_ASSIGN_OR_RETURN(const Text* to, TextArgument(*a[1], "new"));
  EBB_ASSIGN_OR_RETURN(const int64_t most, IntegerOr(a[2], -1, "count"));
  EBB_ASSIGN_OR_RETURN(Text text, Replace(self, *from, self.markup() ? Escape(*to) : *to, most, runtime.budget));
  return Value(std::move(text));
}

Result JoinAll(const Text& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const List items, Items(*a[0], runtime));
  Text out = Text().WithMarkup(self.markup());
  for (size_t i = 0; i < items.size(); ++i) {
    if (!items[i].text()) {
      if (!self.markup()) return Refused(absl::StrCat("join: expected a string, not ", items[i].TypeName()));
      return Refused("join of markup with what is not a string is not supported");
    }
    const Text item = self.markup() ? Escape(*items[i].text()) : *items[i].text();
    const size_t size = item.size() + (i ? self.size() : 0);
    if (out.size() + size > Budget::kMaxText || !runtime.budget.SpendText(size)) {
      runtime.budget.SpendText(Budget::kMaxText + 1);
      return runtime.budget.status();
    }
    if (i > 0) out.Append(self);
    out.Append(item);
  }
  return Value(std::move(out));
}

template <bool from_right>
Result Partition(const Text& self, Bound a, Runtime&) {
  EBB_ASSIGN_OR_RETURN(const Text* by, TextArgument(*a[0], "sep"));
  if (by->empty()) return Refused("empty separator");
  const size_t found = from_right ? FindLastIn(self.bytes(), by->bytes(), 0, self.size()) : FindIn(self.bytes(), by->bytes());
  const Text nothing = Text().WithMarkup(self.markup());
  if (found == std::string::npos) {
    if (from_right) return Value::Tuple({Value(nothing), Value(nothing), Value(self)});
    return Value::Tuple({Value(self), Value(nothing), Value(nothing)});
  }
  const size_t end = found + by->size();
  return Value::Tuple({Value(self.Slice(0, found)), Value(self.Slice(found, end)), Value(self.Slice(end, self.size()))});
}

template <bool suffix>
Result Removed(const Text& self, Bound a, Runtime&) {
  EBB_ASSIGN_OR_RETURN(const Text* affix, TextArgument(*a[0], suffix ? "suffix" : "prefix"));
  const std::string &s = self.bytes(), &part = affix->bytes();
  if (part.size() > s.size()) return Value(self);
  if (suffix) return Value(s.substr(s.size() - part.size()) == part ? self.Slice(0, s.size() - part.size()) : self);
  return Value(s.substr(0, part.size()) == part ? self.Slice(part.size(), s.size()) : self);
}

template <Side side>
Result Pad(const Text& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(*a[0], "width"));
  Text fill(" ");
  if (a[1] != nullptr) {
    EBB_ASSIGN_OR_RETURN(const Text* given, TextArgument(*a[1], "fillchar"));
    if (CodePoints(given->bytes()).count() != 1) return Refused("the fill character must be one character long");
    fill = *given;
  }
  EBB_ASSIGN_OR_RETURN(Text text, Padded(self, width, fill, side, runtime.budget));
  return Value(std::move(text));
}

Result ZeroFill(const Text& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(*a[0], "width"));
  const bool sign = !self.empty() && (self.bytes()[0] == '-' || self.bytes()[0] == '+');
  Text out = self.Slice(0, sign);
  EBB_ASSIGN_OR_RETURN(const Text rest, Padded(self.Slice(sign, self.size()), sign ? std::max<int64_t>(width, 1) - 1 : width, Text("0"), Side::kLeft, runtime.budget));
  out.Append(rest);
  return Value(std::move(out));
}

Result ExpandTabs(const Text& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const int64_t size, IntegerOr(a[0], 8, "tabsize"));
  Text out = Text().WithMarkup(self.markup());
  int64_t column = 0;
  const std::string& s = self.bytes();
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    const char32_t c = DecodeAt(s, &at);
    if (c == '\t') {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      EBB_ASSIGN_OR_RETURN(const Text space, Repeated(Text(" ", self.marked(begin)), blanks, runtime.budget));
      if (out.size() > Budget::kMaxText || !runtime.budget.Spend()) return Refused("expandtabs makes too long a text");
      out.Append(space);
      column += blanks;
      continue;
    }
    out.Append(self, begin, at);
    column = c == '\n' || c == '\r' ? 0 : column + 1;
  }
  return Value(std::move(out));
}

// Whether all characters are such, of one at least.
template <bool (*is)(char32_t), bool empty_is = false>
Result All(const Text& self, Bound, Runtime&) {
  const std::string& s = self.bytes();
  for (size_t at = 0; at < s.size();) {
    if (!is(DecodeAt(s, &at))) return Value(false);
  }
  return Value(empty_is || !s.empty());
}

bool IsAlnum(char32_t c) { return IsAlpha(c) || IsNumeric(c); }
bool IsAsciiChar(char32_t c) { return c < 0x80; }

template <bool upper>
Result InCase(const Text& self, Bound, Runtime&) {
  bool cased = false;
  const std::string& s = self.bytes();
  for (size_t at = 0; at < s.size();) {
    const char32_t c = DecodeAt(s, &at);
    if (IsTitle(c) || (upper ? IsLower(c) : IsUpper(c))) return Value(false);
    cased = cased || (upper ? IsUpper(c) : IsLower(c));
  }
  return Value(cased);
}

Result InTitleCase(const Text& self, Bound, Runtime&) {
  bool cased = false, in_word = false;
  const std::string& s = self.bytes();
  for (size_t at = 0; at < s.size();) {
    const char32_t c = DecodeAt(s, &at);
    const bool begins = IsUpper(c) || IsTitle(c);
    if (begins ? in_word : IsLower(c) && !in_word) return Value(false);
    in_word = begins || IsLower(c);
    cased = cased || in_word;
  }
  return Value(cased);
}

Result Identifier(const Text& self, Bound, Runtime&) { return Value(IsIdentifier(self.bytes())); }

struct Entry {
  Signature signature;
  Method method;  // null: handled below, or known but not supported
};

const std::map<std::string_view, Entry>& Methods() {
  static const auto* methods = new std::map<std::string_view, Entry>{
      {"upper", {{"/"}, Cased<Case::kUpper>}}, {"lower", {{"/"}, Cased<Case::kLower>}},
      {"title", {{"/"}, Cased<Case::kTitle>}}, {"capitalize", {{"/"}, Cased<Case::kCapitalize>}},
      {"swapcase", {{"/"}, Cased<Case::kSwap>}}, {"casefold", {{"/"}, Cased<Case::kFold>}},
      {"strip", {{"/chars"}, Stripped<true, true>}}, {"lstrip", {{"/chars"}, Stripped<true, false>}},
      {"rstrip", {{"/chars"}, Stripped<false, true>}}, {"split", {{"sep,maxsplit"}, SplitUp<false>}},
      {"rsplit", {{"sep,maxsplit"}, SplitUp<true>}}, {"splitlines", {{"keepends"}, Lines}},
      {"find", {{"/sub,start,end", 1}, Find<false, false>}}, {"rfind", {{"/sub,start,end", 1}, Find<true, false>}},
      {"index", {{"/sub,start,end", 1}, Find<false, true>}}, {"rindex", {{"/sub,start,end", 1}, Find<true, true>}},
      {"count", {{"/sub,start,end", 1}, Count}}, {"startswith", {{"/prefix,start,end", 1}, Affix<false>}},
      {"endswith", {{"/suffix,start,end", 1}, Affix<true>}}, {"replace", {{"/old,new,count", 2}, ReplaceAll}},
      {"join", {{"/iterable", 1}, JoinAll}}, {"partition", {{"/sep", 1}, Partition<false>}},
      {"rpartition", {{"/sep", 1}, Partition<true>}}, {"removeprefix", {{"/prefix", 1}, Removed<false>}},
      {"removesuffix", {{"/suffix", 1}, Removed<true>}}, {"center", {{"/width,fillchar", 1}, Pad<Side::kBoth>}},
      {"ljust", {{"/width,fillchar", 1}, Pad<Side::kRight>}}, {"rjust", {{"/width,fillchar", 1}, Pad<Side::kLeft>}},
      {"zfill", {{"/width", 1}, ZeroFill}}, {"expandtabs", {{"tabsize"}, ExpandTabs}},
      {"isalpha", {{"/"}, All<IsAlpha>}}, {"isalnum", {{"/"}, All<IsAlnum>}}, {"isdigit", {{"/"}, All<IsDigit>}},
      {"isdecimal", {{"/"}, All<IsDecimal>}}, {"isnumeric", {{"/"}, All<IsNumeric>}}, {"isspace", {{"/"}, All<IsSpace>}},
      {"isascii", {{"/"}, All<IsAsciiChar, true>}}, {"isprintable", {{"/"}, All<IsPrintable, true>}},
      {"isupper", {{"/"}, InCase<true>}}, {"islower", {{"/"}, InCase<false>}}, {"istitle", {{"/"}, InTitleCase}},
      {"isidentifier", {{"/"}, Identifier}},
      {"format", {{}, nullptr}}, {"format_map", {{"/mapping", 1}, nullptr}},
      {"encode", {{}, nullptr}}, {"translate", {{}, nullptr}}, {"maketrans", {{}, nullptr}}};
  return *methods;
}

}  // namespace

bool HasTextMethod(std::string_view name) { return Methods().count(name) != 0; }

absl::StatusOr<Value> CallTextMethod(const Text& self, const std::string& name, const Arguments& arguments, Runtime& runtime) {
  const Entry& entry = Methods().at(name);
  if (entry.method != nullptr) {
    EBB_ASSIGN_OR_RETURN(const auto bound, entry.signature.Bind(name, arguments));
    runtime.budget.SpendBytes(self.size());
    return entry.method(self, bound, runtime);
  }
  if ((name != "format" && name != "format_map") || self.markup()) return Refused(absl::StrCat("the method '", name, "' is not supported"));
  Arguments values = arguments;
  if (name == "format_map") {
    EBB_ASSIGN_OR_RETURN(const auto bound, entry.signature.Bind(name, arguments));
    const Dict* dict = bound[0]->dict();
    if (dict == nullptr) return Refused("format_map needs a mapping");
    values = Arguments();
    for (const auto& [key, value] : dict->entries()) {
      if (key.text()) values.named.emplace_back(key.text()->bytes(), value);
    }
  }
  EBB_ASSIGN_OR_RETURN(Text text, FormatBraces(self, values, runtime));
  return Value(std::move(text));
}

}  // namespace ebbinghaus::jinja
