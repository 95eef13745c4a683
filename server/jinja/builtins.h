// Filters, tests, methods and global functions, by the names that templates use.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/jinja/heap.h"
#include "server/jinja/value.h"

namespace ebbinghaus::jinja {

// Arguments in the order of a function's parameters; null where one was left out.
using Bound = absl::Span<const Value* const>;

// A function of a fixed list of parameters, such as "width,first,blank". A leading "/" says that
// they cannot be given by name.
struct Signature {
  const char* parameters = "";
  int required = 0;

  // Errors: InvalidArgument naming what is missing, unknown, too much or given twice.
  absl::StatusOr<std::vector<const Value*>> Bind(std::string_view function, const Arguments& arguments) const;
};

// With `all` set, the filter takes arguments as they come.
struct Filter {
  const char* name;
  Signature signature;
  absl::StatusOr<Value> (*apply)(const Value& input, Bound arguments, Runtime& runtime) = nullptr;
  absl::StatusOr<Value> (*all)(const Value& input, const Arguments& arguments, Runtime& runtime) = nullptr;
};

struct Test {
  const char* name;
  Signature signature;
  absl::StatusOr<bool> (*apply)(const Value& input, Bound arguments, Runtime& runtime);
};

const Filter* FindFilter(std::string_view name);  // null: there is none
const Test* FindTest(std::string_view name);
absl::Span<const Filter> SequenceFilters();
absl::Span<const Filter> AttributeFilters();
absl::Span<const Filter> TextFilters();
absl::Span<const Filter> MarkupFilters();
absl::Span<const Filter> NumberFilters();

absl::StatusOr<Value> ApplyFilter(const Filter& filter, const Value& input, const Arguments& arguments, Runtime& runtime);
absl::StatusOr<bool> ApplyTest(const Test& test, const Value& input, const Arguments& arguments, Runtime& runtime);

// object.name and object[key] as jinja2's sandbox answers them: Undefined where there is nothing.
absl::StatusOr<Value> Attribute(const Value& object, const Text& name, Runtime& runtime);
absl::StatusOr<Value> Item(const Value& object, const Value& key, Runtime& runtime);
absl::StatusOr<Value> Slice(const Value& object, const Value& start, const Value& stop, const Value& step, Runtime& runtime);
// Item() along a path such as "a.b.0", as filters take it (an integer is a path of one).
absl::StatusOr<Value> ByPath(Value object, const Value& path, const Value* fallback, Runtime& runtime);

// Whether values of this type have such a method (or attribute that is not an item).
bool HasMethod(const Value& object, std::string_view name);
absl::StatusOr<Value> CallMethod(const BoundMethod& method, const Arguments& arguments, Runtime& runtime);
absl::StatusOr<Value> CallTextMethod(const Text& self, const std::string& name, const Arguments& arguments, Runtime& runtime);
bool HasTextMethod(std::string_view name);
// Every function but those that need the interpreter.
absl::StatusOr<Value> CallGlobal(const std::string& name, const Arguments& arguments, Runtime& runtime);
bool IsGlobalFunction(std::string_view name);

// Operators. Errors: InvalidArgument where Python raises TypeError, ZeroDivisionError and the like.
absl::StatusOr<Value> Binary(std::string_view op, const Value& a, const Value& b, Runtime& runtime);
absl::StatusOr<Value> Negated(const Value& a);
absl::StatusOr<bool> Less(const Value& a, const Value& b, Budget& budget);  // a < b
absl::StatusOr<bool> Compare(std::string_view op, const Value& a, const Value& b, Runtime& runtime);
absl::StatusOr<bool> Contains(const Value& container, const Value& item, Runtime& runtime);
// Stable. `keys` and `values` run beside one another.
absl::Status SortBy(List& keys, List& values, bool reverse, Runtime& runtime);

// Python's str.format and %.
absl::StatusOr<Text> FormatBraces(const Text& form, const Arguments& arguments, Runtime& runtime);
absl::StatusOr<Text> FormatPercent(const Text& form, const Value& values, Runtime& runtime);

// A text argument; an integer argument. Errors: InvalidArgument naming the argument.
absl::StatusOr<const Text*> TextArgument(const Value& value, std::string_view what);
absl::StatusOr<int64_t> IntegerArgument(const Value& value, std::string_view what);
absl::Status Refused(std::string_view what);  // InvalidArgument; the line is added on the way up
// For messages: what a caller wrote becomes "...".
std::string Redacted(const Text& text);

}  // namespace ebbinghaus::jinja
