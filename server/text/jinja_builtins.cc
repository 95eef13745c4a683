// Filters, tests, methods and global functions, each by the name templates use.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <ctime>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/text/jinja_interpreter.h"

namespace ebbinghaus::text::jinja {
namespace {

using Filter = std::function<absl::StatusOr<Value>(const Value&, const Arguments&, Budget&)>;
using Test = std::function<bool(const Value&, const Arguments&, Budget&)>;


absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(what); }

bool IsAsciiSpace(unsigned char c) { return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f); }

// The length of a white space character at the start of `s`, as Python's str.strip() sees it; 0 = none.
size_t SpaceAt(std::string_view s) {
  if (s.empty()) return 0;
  if (IsAsciiSpace(s[0])) return 1;
  static constexpr std::string_view kSpaces[] = {"\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003", "\u2004", "\u2005",
                                                 "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  for (std::string_view space : kSpaces) {
    if (s.substr(0, space.size()) == space) return space.size();
  }
  return 0;
}

Text Strip(const Text& text, const Value* characters, bool left, bool right) {
  const std::string& bytes = text.bytes();
  const std::vector<size_t> offsets = CodePointOffsets(bytes);
  std::set<std::string_view> set;
  if (characters && characters->text()) {
    const std::string_view all = characters->text()->bytes();
    const std::vector<size_t> at = CodePointOffsets(all);
    for (size_t i = 0; i + 1 < at.size(); ++i) set.insert(all.substr(at[i], at[i + 1] - at[i]));
  }
  const auto drop = [&](size_t i) {
    const std::string_view c = std::string_view(bytes).substr(offsets[i], offsets[i + 1] - offsets[i]);
    return set.empty() ? SpaceAt(c) != 0 : set.count(c) != 0;
  };
  size_t begin = 0, end = offsets.size() - 1;
  while (left && begin < end && drop(begin)) ++begin;
  while (right && end > begin && drop(end - 1)) --end;
  return text.Slice(offsets[begin], offsets[end]);
}

Text MapAscii(const Text& text, int (*change)(int)) {
  std::string bytes = text.bytes();
  for (char& c : bytes) {
    if (static_cast<unsigned char>(c) < 0x80) c = static_cast<char>(change(c));
  }
  return text.Rewritten(std::move(bytes));
}

Text Capitalize(const Text& text, bool every_word) {
  std::string bytes = text.bytes();
  bool start = true;
  for (char& c : bytes) {
    c = static_cast<char>(start ? std::toupper(static_cast<unsigned char>(c)) : std::tolower(static_cast<unsigned char>(c)));
    start = every_word && !std::isalnum(static_cast<unsigned char>(c)) && c != '\'';
  }
  return text.Rewritten(std::move(bytes));
}

Text ReplaceAll(const Text& text, const Text& from, const Text& to, int64_t most, Budget& budget) {
  if (from.empty()) return text;
  Text out;
  size_t at = 0;
  for (size_t found; most != 0 && (found = FindIn(text.bytes(), from.bytes(), at)) != std::string::npos; --most) {
    if (!budget.Spend() || !budget.SpendBytes(to.size())) return Text();
    if (out.size() + text.size() + to.size() > Budget::kMaxText) return budget.SpendText(Budget::kMaxText + 1), Text();
    out.Append(text.Slice(at, found));
    out.Append(to);
    at = found + from.size();
  }
  out.Append(text.Slice(at, text.size()));
  return out;
}

List Split(const Text& text, const Value* separator, int64_t most, Budget& budget) {
  List parts;
  const std::string& bytes = text.bytes();
  size_t at = 0;
  if (separator && separator->text() && !separator->text()->empty()) {
    const std::string& by = separator->text()->bytes();
    for (size_t found; most != 0 && budget.Spend() && (found = FindIn(bytes, by, at)) != std::string::npos; --most) {
      parts.push_back(Value(text.Slice(at, found)));
      at = found + by.size();
    }
    parts.push_back(Value(text.Slice(at, text.size())));
    return parts;
  }
  while (budget.Spend()) {  // runs of white space
    while (at < bytes.size() && IsAsciiSpace(bytes[at])) ++at;
    if (at == bytes.size()) return parts;
    size_t end = at;
    if (most-- == 0) end = Strip(text, nullptr, false, true).size();
    else while (end < bytes.size() && !IsAsciiSpace(bytes[end])) ++end;
    parts.push_back(Value(text.Slice(at, end)));
    if (most < -1 + 0 && end == bytes.size()) return parts;
    at = end;
  }
  return parts;
}

absl::StatusOr<Value> Join(const Value& input, const Arguments& arguments, Budget& budget) {
  EBB_ASSIGN_OR_RETURN(const List items, Items(input, budget));
  const Value* separator = arguments.Get(0, "d");
  const Value* attribute = arguments.Get(1, "attribute");
  Text out;
  const auto append = [&](const Value& value) {
    const Text text = value.ToText(budget);
    if (budget.SpendText(out.size() + text.size() > Budget::kMaxText ? Budget::kMaxText + 1 : 0)) out.Append(text);
  };
  for (size_t i = 0; i < items.size() && budget.status().ok(); ++i) {
    if (i > 0 && separator) append(*separator);
    if (attribute) {
      EBB_ASSIGN_OR_RETURN(const Value value, Attribute(items[i], attribute->ToText(budget).bytes(), budget));
      append(value);
    } else {
      append(items[i]);
    }
  }
  return Value(std::move(out));
}

Value Pairs(const Dict& dict) {
  List pairs;
  for (const auto& [key, value] : dict) pairs.push_back(Value::Of(List{Value::Of(key), value}));
  return Value::Of(std::move(pairs));
}

// selectattr and rejectattr: items whose attribute passes a test (or is true).
absl::StatusOr<Value> SelectByAttribute(const Value& input, const Arguments& arguments, bool keep, Budget& budget) {
  EBB_ASSIGN_OR_RETURN(const List items, Items(input, budget));
  if (arguments.positional.empty()) return Bad("selectattr needs an attribute's name");
  const std::string attribute = arguments.positional[0].ToText(budget).bytes();
  List kept;
  for (const Value& item : items) {
    if (!budget.status().ok()) break;
    EBB_ASSIGN_OR_RETURN(const Value value, Attribute(item, attribute, budget));
    bool passes = value.Truth();
    if (arguments.positional.size() > 1) {
      const std::string test = arguments.positional[1].ToText(budget).bytes();
      if (!IsTest(test)) return Bad(absl::StrCat("the test '", test.substr(0, 40), "' is not supported"));
      const Arguments rest{{arguments.positional.begin() + 2, arguments.positional.end()}, {}};
      EBB_ASSIGN_OR_RETURN(passes, ApplyTest(test, value, rest, budget));
    }
    if (passes == keep) kept.push_back(item);
  }
  return Value::Of(std::move(kept));
}

absl::StatusOr<Value> Map(const Value& input, const Arguments& arguments, Budget& budget) {
  EBB_ASSIGN_OR_RETURN(const List items, Items(input, budget));
  const Value* attribute = Find(arguments.named, "attribute");
  List mapped;
  for (const Value& item : items) {
    if (!budget.status().ok()) break;
    if (attribute) {
      EBB_ASSIGN_OR_RETURN(Value value, Attribute(item, attribute->ToText(budget).bytes(), budget));
      mapped.push_back(std::move(value));
      continue;
    }
    const std::string filter = arguments.positional.empty() ? "" : arguments.positional[0].ToText(budget).bytes();
    if (!IsFilter(filter) || filter == "map") return Bad("map needs an attribute or a filter");
    const Arguments rest{{arguments.positional.begin() + 1, arguments.positional.end()}, arguments.named};
    EBB_ASSIGN_OR_RETURN(Value value, ApplyFilter(filter, item, rest, budget));
    mapped.push_back(std::move(value));
  }
  return Value::Of(std::move(mapped));
}

absl::StatusOr<Value> Length(const Value& input, const Arguments&, Budget&) {
  if (const Text* text = input.text()) return Value(static_cast<int64_t>(CodePointOffsets(text->bytes()).size() - 1));
  if (const Dict* dict = input.dict()) return Value(static_cast<int64_t>(dict->size()));
  if (const List* list = input.list()) return Value(static_cast<int64_t>(list->size()));
  return input.undefined() ? absl::StatusOr<Value>(Value(int64_t{0})) : Bad("this value has no length");
}

absl::StatusOr<Value> ToInteger(const Value& input, const Arguments& arguments, Budget&) {
  if (input.number() && !std::isnan(input.real())) return Value(static_cast<int64_t>(std::clamp(input.real(), -9e18, 9e18)));
  if (const Text* text = input.text()) {
    char* end = nullptr;
    const std::string trimmed = Strip(*text, nullptr, true, true).bytes();
    const long long value = std::strtoll(trimmed.c_str(), &end, 10);
    if (!trimmed.empty() && *end == 0) return Value(static_cast<int64_t>(value));
  }
  const Value* fallback = arguments.Get(0, "default");
  return fallback ? *fallback : Value(int64_t{0});
}

absl::StatusOr<Value> EndOf(const Value& input, bool first, Budget& budget) {
  if (input.list() && !input.list()->empty()) return first ? input.list()->front() : input.list()->back();
  EBB_ASSIGN_OR_RETURN(const List items, Items(input, budget));
  if (items.empty()) return Value(Undefined{"an item of an empty list"});
  return first ? items.front() : items.back();
}

absl::StatusOr<Value> Sort(const Value& input, const Arguments&, Budget& budget) {
  EBB_ASSIGN_OR_RETURN(List items, Items(input, budget));
  for (const Value& item : items) {
    // Each is compared about log2(n) times.
    for (size_t n = items.size(); n > 1; n /= 2) {
      if (!budget.Spend() || !item.SpendOnce(budget)) return budget.status();
    }
    if (item.number() != items[0].number() || (!item.number() && !item.text())) return Bad("sort needs numbers or strings");
  }
  std::stable_sort(items.begin(), items.end(), [](const Value& a, const Value& b) {
    return a.number() ? a.real() < b.real() : a.text()->bytes() < b.text()->bytes();
  });
  return Value::Of(std::move(items));
}

absl::StatusOr<Value> Unique(const Value& input, const Arguments&, Budget& budget) {
  EBB_ASSIGN_OR_RETURN(const List items, Items(input, budget));
  List kept;
  for (const Value& item : items) {
    if (std::none_of(kept.begin(), kept.end(), [&](const Value& k) { return Equal(k, item, budget); })) kept.push_back(item);
  }
  return Value::Of(std::move(kept));
}

absl::StatusOr<Value> Reverse(const Value& input, const Arguments&, Budget& budget) {
  EBB_ASSIGN_OR_RETURN(List items, Items(input, budget));
  std::reverse(items.begin(), items.end());
  if (!input.text()) return Value::Of(std::move(items));
  Text text;
  for (const Value& c : items) text.Append(*c.text());
  return Value(std::move(text));
}

absl::StatusOr<Value> Json(const Value& input, const Arguments& arguments, Budget& budget) {
  const Value* indent = arguments.Get(0, "indent");
  const int width = indent && indent->number() ? static_cast<int>(std::clamp<int64_t>(indent->integer(), 0, 16)) : -1;
  return Value(ToJson(input, width, budget));
}

absl::StatusOr<Value> Default(const Value& input, const Arguments& arguments, Budget&) {
  const Value* also_false = arguments.Get(1, "boolean");
  if (!input.undefined() && !(also_false && also_false->Truth() && !input.Truth())) return input;
  const Value* fallback = arguments.Get(0, "default_value");
  return fallback ? *fallback : Value::Of(std::string());
}

// What any filter, test or method costs at least. Those that do more than look at everything once spend more themselves.
bool SpendOnAll(const Value& input, const Arguments& arguments, Budget& budget) {
  for (const Value& value : arguments.positional) value.SpendOnce(budget);
  for (const auto& [name, value] : arguments.named) value.SpendOnce(budget);
  return budget.Spend() && input.SpendOnce(budget);
}

// A filter from text to text.
Filter OnText(std::function<Text(const Text&)> change) {
  return [change](const Value& input, const Arguments&, Budget& b) -> absl::StatusOr<Value> { return Value(change(input.ToText(b))); };
}

const std::map<std::string_view, Filter>& Filters() {
  static const auto* filters = new std::map<std::string_view, Filter>{
      {"trim", [](const Value& v, const Arguments& a, Budget& b) -> absl::StatusOr<Value> {
         return Value(Strip(v.ToText(b), a.Get(0, "chars"), true, true)); }},
      {"upper", OnText([](const Text& t) { return MapAscii(t, std::toupper); })},
      {"lower", OnText([](const Text& t) { return MapAscii(t, std::tolower); })},
      {"capitalize", OnText([](const Text& t) { return Capitalize(t, false); })},
      {"title", OnText([](const Text& t) { return Capitalize(t, true); })},
      {"string", OnText([](const Text& t) { return t; })},
      {"safe", [](const Value& v, const Arguments&, Budget&) -> absl::StatusOr<Value> { return v; }},
      {"length", Length}, {"count", Length}, {"tojson", Json}, {"join", Join}, {"default", Default}, {"d", Default},
      {"int", ToInteger}, {"sort", Sort}, {"unique", Unique}, {"reverse", Reverse}, {"map", Map},
      {"first", [](const Value& v, const Arguments&, Budget& b) { return EndOf(v, true, b); }},
      {"last", [](const Value& v, const Arguments&, Budget& b) { return EndOf(v, false, b); }},
      {"float", [](const Value& v, const Arguments&, Budget& b) -> absl::StatusOr<Value> {
         return Value(v.number() ? v.real() : std::strtod(v.ToText(b).bytes().c_str(), nullptr)); }},
      {"abs", [](const Value& v, const Arguments&, Budget&) -> absl::StatusOr<Value> {
         if (!v.number()) return Bad("abs needs a number");
         if (v.integer() == std::numeric_limits<int64_t>::min()) return Bad("a number is too large");
         return v.As<double>() ? Value(std::abs(v.real())) : Value(v.integer() < 0 ? -v.integer() : v.integer()); }},
      {"list", [](const Value& v, const Arguments&, Budget& b) -> absl::StatusOr<Value> {
         EBB_ASSIGN_OR_RETURN(List items, Items(v, b));
         return Value::Of(std::move(items)); }},
      {"items", [](const Value& v, const Arguments&, Budget&) -> absl::StatusOr<Value> {
         if (v.undefined()) return Value::Of(List());
         return v.dict() ? absl::StatusOr<Value>(Pairs(*v.dict())) : Bad("items needs a mapping"); }},
      {"replace", [](const Value& v, const Arguments& a, Budget& b) -> absl::StatusOr<Value> {
         if (a.positional.size() < 2) return Bad("replace needs what to replace and by what");
         const int64_t most = a.positional.size() > 2 ? a.positional[2].integer() : -1;
         return Value(ReplaceAll(v.ToText(b), a.positional[0].ToText(b), a.positional[1].ToText(b), most, b)); }},
      {"selectattr", [](const Value& v, const Arguments& a, Budget& b) { return SelectByAttribute(v, a, true, b); }},
      {"rejectattr", [](const Value& v, const Arguments& a, Budget& b) { return SelectByAttribute(v, a, false, b); }},
  };
  return *filters;
}

bool Compare(const Value& a, const Arguments& arguments, const std::function<bool(int)>& accept) {
  if (arguments.positional.empty()) return false;
  const Value& b = arguments.positional[0];
  if (a.number() && b.number()) return accept(a.real() < b.real() ? -1 : a.real() > b.real() ? 1 : 0);
  if (a.text() && b.text()) return accept(a.text()->bytes().compare(b.text()->bytes()));
  return false;
}

bool EqualTo(const Value& v, const Arguments& a, Budget& b) { return !a.positional.empty() && Equal(v, a.positional[0], b); }

const std::map<std::string_view, Test>& Tests() {
  static const auto* tests = new std::map<std::string_view, Test>{
      {"defined", [](const Value& v, const Arguments&, Budget&) { return !v.undefined(); }},
      {"undefined", [](const Value& v, const Arguments&, Budget&) { return v.undefined(); }},
      {"none", [](const Value& v, const Arguments&, Budget&) { return v.none(); }},
      {"string", [](const Value& v, const Arguments&, Budget&) { return v.text() != nullptr; }},
      {"mapping", [](const Value& v, const Arguments&, Budget&) { return v.dict() != nullptr; }},
      {"sequence", [](const Value& v, const Arguments&, Budget&) { return v.text() || v.list() || v.dict(); }},
      {"iterable", [](const Value& v, const Arguments&, Budget&) { return v.text() || v.list() || v.dict() || v.undefined(); }},
      {"number", [](const Value& v, const Arguments&, Budget&) { return v.number(); }},
      {"integer", [](const Value& v, const Arguments&, Budget&) { return v.As<int64_t>() != nullptr; }},
      {"float", [](const Value& v, const Arguments&, Budget&) { return v.As<double>() != nullptr; }},
      {"boolean", [](const Value& v, const Arguments&, Budget&) { return v.As<bool>() != nullptr; }},
      {"true", [](const Value& v, const Arguments&, Budget&) { return v.As<bool>() && *v.As<bool>(); }},
      {"false", [](const Value& v, const Arguments&, Budget&) { return v.As<bool>() && !*v.As<bool>(); }},
      {"callable", [](const Value& v, const Arguments&, Budget&) { return v.As<Callable>() != nullptr; }},
      {"odd", [](const Value& v, const Arguments&, Budget&) { return v.number() && v.integer() % 2 != 0; }},
      {"even", [](const Value& v, const Arguments&, Budget&) { return v.number() && v.integer() % 2 == 0; }},
      {"divisibleby", [](const Value& v, const Arguments& a, Budget&) {
         return !a.positional.empty() && a.positional[0].integer() > 0 && v.integer() % a.positional[0].integer() == 0; }},
      {"in", [](const Value& v, const Arguments& a, Budget& b) { return !a.positional.empty() && Contains(a.positional[0], v, b); }},
      {"equalto", EqualTo}, {"eq", EqualTo}, {"sameas", EqualTo},
      {"ne", [](const Value& v, const Arguments& a, Budget& b) { return !EqualTo(v, a, b); }},
      {"lt", [](const Value& v, const Arguments& a, Budget&) { return Compare(v, a, [](int c) { return c < 0; }); }},
      {"gt", [](const Value& v, const Arguments& a, Budget&) { return Compare(v, a, [](int c) { return c > 0; }); }},
      {"le", [](const Value& v, const Arguments& a, Budget&) { return Compare(v, a, [](int c) { return c <= 0; }); }},
      {"ge", [](const Value& v, const Arguments& a, Budget&) { return Compare(v, a, [](int c) { return c >= 0; }); }},
  };
  return *tests;
}

// startswith and endswith take one string or several.
bool AnyOf(const Value* candidates, const std::function<bool(const std::string&)>& holds) {
  if (candidates == nullptr) return false;
  if (candidates->text()) return holds(candidates->text()->bytes());
  const List* list = candidates->list();
  return list && std::any_of(list->begin(), list->end(), [&](const Value& v) { return v.text() && holds(v.text()->bytes()); });
}

absl::StatusOr<Value> TextMethod(const Text& text, const std::string& name, const Arguments& a, Budget& budget) {
  const std::string& bytes = text.bytes();
  const Value* first = a.Get(0, "");
  if (name == "strip") return Value(Strip(text, first, true, true));
  if (name == "lstrip") return Value(Strip(text, first, true, false));
  if (name == "rstrip") return Value(Strip(text, first, false, true));
  if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") return ApplyFilter(name, Value(text), {}, budget);
  if (name == "replace") return ApplyFilter(name, Value(text), a, budget);
  if (name == "join") return first ? Join(*first, Arguments{{Value(text)}, {}}, budget) : Bad("join needs a list");
  if (name == "split") {
    const Value* most = a.Get(1, "maxsplit");
    return Value::Of(Split(text, first ? first : Find(a.named, "sep"), most ? most->integer() : -1, budget));
  }
  if (name == "startswith") return Value(AnyOf(first, [&](const std::string& s) { return budget.SpendBytes(s.size()) && bytes.compare(0, s.size(), s) == 0; }));
  if (name == "endswith") return Value(AnyOf(first, [&](const std::string& s) { return budget.SpendBytes(s.size()) && bytes.size() >= s.size() && bytes.compare(bytes.size() - s.size(), s.size(), s) == 0; }));
  if (name == "find" || name == "count") {
    if (!first || !first->text()) return Bad(absl::StrCat(name, " needs a string"));
    const std::string& s = first->text()->bytes();
    if (name == "find") {
      const size_t at = FindIn(bytes, s);
      return Value(at == bytes.npos ? int64_t{-1} : static_cast<int64_t>(CodePointOffsets(bytes.substr(0, at)).size() - 1));
    }
    return Value(static_cast<int64_t>(s.empty() ? 0 : Split(text, first, -1, budget).size() - 1));
  }
  if (name == "isdigit") return Value(!bytes.empty() && std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) { return std::isdigit(c); }));
  return Bad(absl::StrCat("strings have no method '", name.substr(0, 40), "' here"));
}

absl::StatusOr<Value> DictMethod(const Dict& dict, const std::string& name, const Arguments& a, Budget& budget) {
  if (name == "items") return Pairs(dict);
  if (name == "keys" || name == "values") {
    List parts;
    for (const auto& [key, value] : dict) parts.push_back(name == "keys" ? Value::Of(key) : value);
    return Value::Of(std::move(parts));
  }
  if (name == "get" && !a.positional.empty()) {
    const Value* found = Find(dict, a.positional[0].ToText(budget).bytes());
    if (found) return *found;
    return a.positional.size() > 1 ? a.positional[1] : Value(None{});
  }
  return Bad(absl::StrCat("mappings have no method '", name.substr(0, 40), "' here"));
}

absl::StatusOr<Value> Range(const Arguments& a, Budget& budget) {
  int64_t bounds[3] = {0, 0, 1};
  if (a.positional.empty() || a.positional.size() > 3) return Bad("range takes one to three numbers");
  for (const Value& v : a.positional) if (!v.As<int64_t>()) return Bad("range takes whole numbers");
  if (a.positional.size() == 1) bounds[1] = a.positional[0].integer();
  else for (size_t i = 0; i < a.positional.size(); ++i) bounds[i] = a.positional[i].integer();
  if (bounds[2] == 0) return Bad("range's step must not be 0");
  const double count = (static_cast<double>(bounds[1]) - static_cast<double>(bounds[0])) / static_cast<double>(bounds[2]);
  if (count > 0 && !budget.Spend(static_cast<uint64_t>(std::min<double>(count, Budget::kMaxSteps + 1)))) return budget.status();
  List numbers;
  for (int64_t i = bounds[0]; bounds[2] > 0 ? i < bounds[1] : i > bounds[1];) {
    numbers.push_back(Value(i));
    if (__builtin_add_overflow(i, bounds[2], &i)) break;
  }
  return Value::Of(std::move(numbers));
}

absl::StatusOr<Value> FormatTime(const Arguments& a, std::time_t now) {
  if (a.positional.empty() || !a.positional[0].text() || a.positional[0].text()->size() > 256) return Bad("strftime_now takes a format");
  std::tm parts{};
  gmtime_r(&now, &parts);
  char buffer[1024];
  return Value::Of(std::string(buffer, std::strftime(buffer, sizeof buffer, a.positional[0].text()->bytes().c_str(), &parts)));
}

}  // namespace

bool IsFilter(std::string_view name) { return Filters().count(name) != 0; }
bool IsTest(std::string_view name) { return Tests().count(name) != 0; }
bool IsGlobalFunction(std::string_view name) {
  return name == "range" || name == "namespace" || name == "dict" || name == "raise_exception" || name == "strftime_now";
}

absl::StatusOr<Value> ApplyFilter(const std::string& name, const Value& input, const Arguments& arguments, Budget& budget) {
  if (!SpendOnAll(input, arguments, budget)) return budget.status();
  return Filters().at(name)(input, arguments, budget);
}

absl::StatusOr<bool> ApplyTest(const std::string& name, const Value& input, const Arguments& arguments, Budget& budget) {
  if (!SpendOnAll(input, arguments, budget)) return budget.status();
  return Tests().at(name)(input, arguments, budget);
}

absl::StatusOr<Value> CallMethod(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (!SpendOnAll(object, arguments, budget)) return budget.status();
  if (const Text* text = object.text()) return TextMethod(*text, name, arguments, budget);
  if (const Dict* dict = object.dict()) return DictMethod(*dict, name, arguments, budget);
  if (object.undefined()) return Bad(absl::StrCat("'", object.As<Undefined>()->name, "' is undefined"));
  return Bad(absl::StrCat("this value has no method '", name.substr(0, 40), "'"));
}

// What the template itself says; what clients wrote is left out, since errors are logged and must not quote prompts.
std::string WithoutMessages(const Text& text) {
  std::string own;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!text.marked(i)) {
      own += text.bytes()[i];
    } else if (i == 0 || !text.marked(i - 1)) {
      own += "...";
    }
  }
  return own;
}

absl::StatusOr<Value> CallGlobal(const std::string& name, const Arguments& arguments, std::time_t now, Budget& budget) {
  if (name == "range") return Range(arguments, budget);
  if (name == "strftime_now") return FormatTime(arguments, now);
  if (name == "raise_exception") {
    return Bad(absl::StrCat("the template refuses: ",
                            arguments.positional.empty() ? "" : WithoutMessages(arguments.positional[0].ToText(budget))));
  }
  for (const auto& [key, value] : arguments.named) {
    if (value.depth() >= Value::kNamespaceDepth) return Bad("a namespace inside another value is not supported");
  }
  Dict dict(arguments.named.begin(), arguments.named.end());
  if (name == "namespace") return Value(Namespace{std::make_shared<Dict>(std::move(dict))});
  return Value::Of(std::move(dict));
}

bool Contains(const Value& container, const Value& item, Budget& budget) {
  if (!container.SpendOnce(budget)) return false;
  if (const Text* text = container.text()) return item.text() && FindIn(text->bytes(), item.text()->bytes()) != std::string::npos;
  if (const Dict* dict = container.dict()) return item.text() && Find(*dict, item.text()->bytes()) != nullptr;
  const List* list = container.list();
  return list && std::any_of(list->begin(), list->end(), [&](const Value& v) { return Equal(v, item, budget); });
}

absl::StatusOr<List> Items(const Value& value, Budget& budget) {
  List items;
  if (!value.SpendOnce(budget)) return items;
  if (const List* list = value.list()) {
    items = *list;
  } else if (const Dict* dict = value.dict()) {
    for (const auto& [key, ignored] : *dict) items.push_back(Value::Of(key));
  } else if (const Text* text = value.text()) {
    const std::vector<size_t> offsets = CodePointOffsets(text->bytes());
    if (!budget.Spend(offsets.size())) return items;
    for (size_t i = 0; i + 1 < offsets.size(); ++i) items.push_back(Value(text->Slice(offsets[i], offsets[i + 1])));
  } else if (!value.undefined()) {
    return Bad("this value cannot be iterated");
  }
  return items;
}

absl::StatusOr<Value> Attribute(const Value& object, const std::string& name, Budget& budget) {
  if (object.undefined()) return Bad(absl::StrCat("'", object.As<Undefined>()->name, "' is undefined"));
  const Dict* dict = object.dict();
  if (const auto* space = object.As<Namespace>()) dict = space->attributes.get();
  if (dict) budget.Spend(dict->size() / 32);
  const Value* found = dict ? Find(*dict, name) : nullptr;
  return found ? *found : Value(Undefined{name.substr(0, 40)});
}

}  // namespace ebbinghaus::text::jinja
