// Filters that apply other filters and tests, or look attributes up.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<Value>;

// Arguments without the first `n` positional ones.
Arguments Behind(const Arguments& arguments, size_t n) {
  return {{arguments.positional.begin() + static_cast<std::ptrdiff_t>(n), arguments.positional.end()}, arguments.named};
}

// The items of `input` as a generator sees them: none for what is false.
struct Source {
  Value input;
  Runtime* runtime;
  std::optional<Cursor> cursor;

  absl::StatusOr<bool> Next(Value* item) {
    if (!cursor) {
      if (!input.Truth()) return false;
      EBB_ASSIGN_OR_RETURN(cursor, Cursor::Over(input, *runtime));
    }
    return cursor->Next(item);
  }
};

int DepthOf(const Value& input, Runtime& runtime) {
  absl::StatusOr<Cursor> cursor = input.object() ? Cursor::Over(input, runtime) : absl::StatusOr<Cursor>(absl::NotFoundError(""));
  return cursor.ok() ? cursor->depth() + 1 : 1;
}

absl::StatusOr<Value> MapOne(const Value& item, const Arguments& arguments, Runtime& runtime) {
  if (arguments.positional.empty()) {
    const Value *path = nullptr, *fallback = nullptr;
    for (const auto& [name, value] : arguments.named) {
      if (name == "attribute") path = &value;
      else if (name == "default") fallback = value.none() ? nullptr : &value;
    }
    if (path == nullptr) return Refused("map requires a filter argument");
    for (const auto& [name, value] : arguments.named) {
      if (name != "attribute" && name != "default") return Refused(absl::StrCat("map: unexpected keyword argument '", name.substr(0, 40), "'"));
    }
    return ByPath(item, *path, fallback, runtime);
  }
  EBB_ASSIGN_OR_RETURN(const Text* name, TextArgument(arguments.positional[0], "filter"));
  const Filter* filter = FindFilter(name->bytes());
  if (filter == nullptr) return Refused(absl::StrCat("the filter '", Redacted(*name).substr(0, 40), "' is not known"));
  return ApplyFilter(*filter, item, Behind(arguments, 1), runtime);
}

Result Map(const Value& input, const Arguments& arguments, Runtime& runtime) {
  auto source = std::make_shared<Source>(Source{input, &runtime, {}});
  return MakeIterator([source, arguments, &runtime](Value* item) -> absl::StatusOr<bool> {
    EBB_ASSIGN_OR_RETURN(const bool more, source->Next(item));
    if (!more) return false;
    EBB_ASSIGN_OR_RETURN(*item, MapOne(*item, arguments, runtime));
    return true;
  }, DepthOf(input, runtime), runtime);
}

absl::StatusOr<bool> Passes(Value item, const Arguments& arguments, bool attribute, Runtime& runtime) {
  size_t first = 0;
  if (attribute) {
    if (arguments.positional.empty()) return Refused("Missing parameter for attribute name");
    EBB_ASSIGN_OR_RETURN(item, ByPath(item, arguments.positional[0], nullptr, runtime));
    first = 1;
  }
  if (arguments.positional.size() == first) return item.Truth();
  EBB_ASSIGN_OR_RETURN(const Text* name, TextArgument(arguments.positional[first], "test"));
  const Test* test = FindTest(name->bytes());
  if (test == nullptr) return Refused(absl::StrCat("the test '", Redacted(*name).substr(0, 40), "' is not known"));
  return ApplyTest(*test, item, Behind(arguments, first + 1), runtime);
}

template <bool keep, bool attribute>
Result Select(const Value& input, const Arguments& arguments, Runtime& runtime) {
  auto source = std::make_shared<Source>(Source{input, &runtime, {}});
  return MakeIterator([source, arguments, &runtime](Value* item) -> absl::StatusOr<bool> {
    while (true) {
      EBB_ASSIGN_OR_RETURN(const bool more, source->Next(item));
      if (!more) return false;
      EBB_ASSIGN_OR_RETURN(const bool passes, Passes(*item, arguments, attribute, runtime));
      if (passes == keep) return true;
    }
  }, DepthOf(input, runtime), runtime);
}

Result Default(const Value& input, Bound a, Runtime&) {
  const bool also_false = a[1] != nullptr && a[1]->Truth();
  if (!input.undefined() && !(also_false && !input.Truth())) return input;
  return a[0] != nullptr ? *a[0] : Value::Of(std::string());
}

// Attributes only: items are not looked at unless such an attribute is there.
Result Attr(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text* name, TextArgument(*a[0], "name"));
  if (input.dict() && !HasMethod(input, name->bytes())) return Value::Not("an attribute that is undefined");
  return Attribute(input, name->WithMarkup(false), runtime);
}

Result ToJson(const Value& input, Bound a, Runtime& runtime) {
  JsonStyle style;
  style.ensure_ascii = a[0] != nullptr && a[0]->Truth();
  style.sort_keys = a[3] != nullptr && a[3]->Truth();
  if (a[1] != nullptr && !a[1]->none()) {
    if (a[1]->text()) {
      style.indent = a[1]->text()->WithMarkup(false);
    } else {
      EBB_ASSIGN_OR_RETURN(const int64_t width, IntegerArgument(*a[1], "indent"));
      if (width > 1000) return Refused("tojson: an indent above 1000 is not supported");
      style.indent = Text(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '));
    }
  }
  style.item_separator = Text(style.indent ? "," : ", ");
  style.key_separator = Text(": ");
  if (a[2] != nullptr && !a[2]->none()) {
    EBB_ASSIGN_OR_RETURN(const List pair, Items(*a[2], runtime));
    if (pair.size() != 2 || !pair[0].text() || !pair[1].text()) return Refused("tojson: separators must be two strings");
    style.item_separator = *pair[0].text();
    style.key_separator = *pair[1].text();
  }
  EBB_ASSIGN_OR_RETURN(Text text, Json(input, style, runtime));
  return Value(std::move(text));
}

// Python's pprint fits a line of 80; longer ones it breaks in ways that no template needs.
Result PrettyPrint(const Value& input, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Text text, Repr(input, runtime.budget, /*sort_keys=*/true));
  if (text.size() > 79) return Refused("pprint of more than a line is not supported");
  return Value(std::move(text));
}

}  // namespace

absl::Span<const Filter> AttributeFilters() {
  static const Filter kFilters[] = {
      {"map", {}, nullptr, Map}, {"select", {}, nullptr, Select<true, false>}, {"reject", {}, nullptr, Select<false, false>},
      {"selectattr", {}, nullptr, Select<true, true>}, {"rejectattr", {}, nullptr, Select<false, true>},
      {"default", {"default_value,boolean"}, Default}, {"d", {"default_value,boolean"}, Default}, {"attr", {"name", 1}, Attr},
      {"tojson", {"ensure_ascii,indent,separators,sort_keys"}, ToJson}, {"pprint", {}, PrettyPrint}};
  return kFilters;
}

}  // namespace ebbinghaus::jinja
