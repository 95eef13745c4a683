// Tests: what stands behind `is`.
#include <map>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/loop.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<bool>;

absl::StatusOr<bool> RemainderIs(const Value& value, const Value& divisor, int64_t wanted, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Value rest, Binary("%", value, divisor, runtime));
  return rest.number() && CompareNumbers(rest, Value(wanted)) == 0;
}

template <bool upper>
Result InCase(const Value& value, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const Text text, Str(value, runtime.budget));
  EBB_ASSIGN_OR_RETURN(const Value holds, CallTextMethod(text.WithMarkup(false), upper ? "isupper" : "islower", {}, runtime));
  return holds.Truth();
}

bool Callable(const Value& value) {
  if (value.undefined()) return true;
  const Object* object = value.object();
  return object != nullptr && !dynamic_cast<const Namespace*>(object) && !dynamic_cast<const Iterator*>(object) && !dynamic_cast<const Cycler*>(object);
}

bool Sequence(const Value& value) {
  return value.text() || value.items() || value.dict() || value.range() || value.undefined();
}

bool Iterable(const Value& value) {
  const Object* object = value.object();
  if (object != nullptr) return dynamic_cast<const Iterator*>(object) || dynamic_cast<const LoopContext*>(object);
  return Sequence(value) || value.view();
}

template <const char* op>
Result Compared(const Value& value, Bound a, Runtime& runtime) { return Compare(op, value, *a[0], runtime); }
constexpr char kEq[] = "==", kNe[] = "!=", kLt[] = "<", kLe[] = "<=", kGt[] = ">", kGe[] = ">=", kIn[] = "in";

template <bool (*is)(const Value&)>
Result Is(const Value& value, Bound, Runtime&) { return is(value); }

bool Defined(const Value& v) { return !v.undefined(); }
bool NotDefined(const Value& v) { return v.undefined(); }
bool NoneAtAll(const Value& v) { return v.none(); }
bool Boolean(const Value& v) { return v.As<bool>() != nullptr; }
bool True(const Value& v) { return v.As<bool>() && *v.As<bool>(); }
bool False(const Value& v) { return v.As<bool>() && !*v.As<bool>(); }
bool Integer(const Value& v) { return v.As<int64_t>() != nullptr; }
bool Real(const Value& v) { return v.As<double>() != nullptr; }
bool Number(const Value& v) { return v.number(); }
bool String(const Value& v) { return v.text() != nullptr; }
bool Mapping(const Value& v) { return v.dict() != nullptr; }
bool Escaped(const Value& v) { return v.text() != nullptr && v.text()->markup(); }

Result Odd(const Value& value, Bound, Runtime& runtime) { return RemainderIs(value, Value(int64_t{2}), 1, runtime); }
Result Even(const Value& value, Bound, Runtime& runtime) { return RemainderIs(value, Value(int64_t{2}), 0, runtime); }
Result Divisible(const Value& value, Bound a, Runtime& runtime) { return RemainderIs(value, *a[0], 0, runtime); }
Result SameAs(const Value& value, Bound a, Runtime&) {
  // Whether equal strings and numbers are one object is Python's affair.
  const Value& other = *a[0];
  const bool scalar = (value.text() && other.text()) || (value.As<int64_t>() && other.As<int64_t>()) || (value.As<double>() && other.As<double>());
  if (scalar && !Same(value, other)) return Refused("sameas of strings and numbers is not supported");
  return Same(value, other);
}

template <typename Find>
Result Known(const Value& value, Find find) {
  if (value.text()) return find(value.text()->bytes()) != nullptr;
  if (!Hash(value)) return Refused(absl::StrCat("unhashable type: '", value.TypeName(), "'"));
  return false;
}
Result IsFilter(const Value& value, Bound, Runtime&) { return Known(value, FindFilter); }
Result IsTest(const Value& value, Bound, Runtime&) { return Known(value, FindTest); }

}  // namespace

const Test* FindTest(std::string_view name) {
  static constexpr Signature kNone, kOther{"/b", 1};
  static const Test kTests[] = {
      {"odd", kNone, Odd}, {"even", kNone, Even}, {"divisibleby", {"num", 1}, Divisible}, {"defined", kNone, Is<Defined>},
      {"undefined", kNone, Is<NotDefined>}, {"filter", kNone, IsFilter}, {"test", kNone, IsTest}, {"none", kNone, Is<NoneAtAll>},
      {"boolean", kNone, Is<Boolean>}, {"true", kNone, Is<True>}, {"false", kNone, Is<False>}, {"integer", kNone, Is<Integer>},
      {"float", kNone, Is<Real>}, {"lower", kNone, InCase<false>}, {"upper", kNone, InCase<true>}, {"string", kNone, Is<String>},
      {"mapping", kNone, Is<Mapping>}, {"number", kNone, Is<Number>}, {"sequence", kNone, Is<Sequence>}, {"iterable", kNone, Is<Iterable>},
      {"callable", kNone, Is<Callable>}, {"sameas", {"other", 1}, SameAs}, {"escaped", kNone, Is<Escaped>}, {"in", {"seq", 1}, Compared<kIn>},
      {"==", kOther, Compared<kEq>}, {"eq", kOther, Compared<kEq>}, {"equalto", kOther, Compared<kEq>},
      {"!=", kOther, Compared<kNe>}, {"ne", kOther, Compared<kNe>},
      {">", kOther, Compared<kGt>}, {"gt", kOther, Compared<kGt>}, {"greaterthan", kOther, Compared<kGt>},
      {">=", kOther, Compared<kGe>}, {"ge", kOther, Compared<kGe>},
      {"<", kOther, Compared<kLt>}, {"lt", kOther, Compared<kLt>}, {"lessthan", kOther, Compared<kLt>},
      {"<=", kOther, Compared<kLe>}, {"le", kOther, Compared<kLe>}};
  static const auto* tests = [] {
    auto* all = new std::map<std::string_view, const Test*>;
    for (const Test& test : kTests) (*all)[test.name] = &test;
    return all;
  }();
  const auto found = tests->find(name);
  return found == tests->end() ? nullptr : found->second;
}

absl::StatusOr<bool> ApplyTest(const Test& test, const Value& input, const Arguments& arguments, Runtime& runtime) {
  if (!runtime.budget.Spend()) return runtime.budget.status();
  EBB_ASSIGN_OR_RETURN(const auto bound, test.signature.Bind(test.name, arguments));
  return test.apply(input, bound, runtime);
}

}  // namespace ebbinghaus::jinja
