#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/markup.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {
namespace {

absl::Status TooLarge() { return Refused("an integer beyond 64 bits is not supported"); }
absl::Status ByZero() { return Refused("division by zero"); }

absl::Status Unfit(std::string_view op, const Value& a, const Value& b) {
  return Refused(absl::StrCat("'", std::string(op), "' does not join ", a.TypeName(), " and ", b.TypeName()));
}

absl::StatusOr<Value> IntegerPower(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return Refused("0 cannot be raised to a negative power");
    return Value(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value(exponent == 0 ? int64_t{1} : base);
  if (base == -1) return Value(int64_t{exponent % 2 == 0 ? 1 : -1});
  int64_t result = 1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) return TooLarge();
  }
  return Value(result);
}

absl::StatusOr<Value> IntegerArithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(a, b, &result);
  else if (op == "-") overflow = __builtin_sub_overflow(a, b, &result);
  else if (op == "*") overflow = __builtin_mul_overflow(a, b, &result);
  else if (op == "**") return IntegerPower(a, b);
  else if (b == 0) return ByZero();
  else if (op == "/") return Value(static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b)));
  else if (b == -1) overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &result);
  else if (op == "//") result = a / b - ((a % b != 0) && ((a < 0) != (b < 0)));
  else if ((result = a % b) != 0 && (result < 0) != (b < 0)) result += b;
  if (overflow) return TooLarge();
  return Value(result);
}

absl::StatusOr<Value> RealArithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value(a + b);
  if (op == "-") return Value(a - b);
  if (op == "*") return Value(a * b);
  if (op == "**") {
    if (a == 0 && b < 0) return Refused("0.0 cannot be raised to a negative power");
    if (a < 0 && std::isfinite(a) && std::isfinite(b) && std::trunc(b) != b) return Refused("complex numbers are not supported");
    const double power = std::pow(a, b);
    if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) return Refused("a result is too large");
    return Value(power);
  }
  if (b == 0) return ByZero();
  if (op == "/") return Value(a / b);
  double rest = std::fmod(a, b), quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) rest += b, quotient -= 1;
  if (rest == 0) rest = std::copysign(0.0, b);
  if (op == "%") return Value(rest);
  if (quotient == 0) return Value(std::copysign(0.0, a / b));
  const double whole = std::floor(quotient);
  return Value(quotient - whole > 0.5 ? whole + 1 : whole);
}

// text * n, list * n, tuple * n.
absl::StatusOr<Value> Repeat(const Value& value, int64_t times, Budget& budget) {
  times = std::max<int64_t>(times, 0);
  const size_t size = value.text() ? value.text()->size() : value.items()->size();
  if (size == 0 || times == 0) times = size == 0 ? std::min<int64_t>(times, 1) : 0;
  if (size != 0 && static_cast<uint64_t>(times) > Budget::kMaxText / size) {
    budget.SpendText(Budget::kMaxText + 1);
    return budget.status();
  }
  const size_t total = size * static_cast<size_t>(times);
  if (!(value.text() ? budget.SpendText(total) : budget.SpendItems(total))) return budget.status();
  if (value.text()) {
    Text text = Text().WithMarkup(value.text()->markup());
    for (int64_t i = 0; i < times; ++i) text.Append(*value.text());
    return Value(std::move(text));
  }
  List items;
  for (int64_t i = 0; i < times; ++i) items.insert(items.end(), value.items()->begin(), value.items()->end());
  return value.list() ? Value::Of(std::move(items)) : Value::Tuple(std::move(items));
}

absl::StatusOr<Value> Add(const Value& a, const Value& b, Runtime& runtime) {
  Budget& budget = runtime.budget;
  if (a.text() && b.text()) {
    const bool markup = a.text()->markup() || b.text()->markup();
    Text joined = markup ? Escape(*a.text()) : *a.text();
    if (!budget.SpendText(a.text()->size() + b.text()->size())) return budget.status();
    joined.Append(markup ? Escape(*b.text()) : *b.text());
    return Value(joined.WithMarkup(markup));
  }
  const bool lists = a.list() && b.list();
  if (lists || (a.tuple() && b.tuple())) {
    if (!budget.SpendItems(a.items()->size() + b.items()->size())) return budget.status();
    List joined = *a.items();
    joined.insert(joined.end(), b.items()->begin(), b.items()->end());
    return lists ? Value::Of(std::move(joined)) : Value::Tuple(std::move(joined));
  }
  return Unfit("+", a, b);
}

absl::StatusOr<bool> LessItems(const List& a, const List& b, Budget& budget) {
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
    if (Equal(a[i], b[i], budget)) continue;
    if (!budget.ok()) return budget.status();
    return Less(a[i], b[i], budget);
  }
  return a.size() < b.size();
}

}  // namespace

absl::StatusOr<Value> Binary(std::string_view op, const Value& a, const Value& b, Runtime& runtime) {
  for (const Value* v : {&a, &b}) {
    if (v->undefined() && !(op == "%" && a.text())) return Refused(*v->As<Undefined>()->what);
  }
  if (a.number() && b.number()) {
    if (a.integral() && b.integral()) return IntegerArithmetic(op, a.integer(), b.integer());
    return RealArithmetic(op, a.real(), b.real());
  }
  if (op == "+") return Add(a, b, runtime);
  if (op == "*" && b.integral() && (a.text() || a.items())) return Repeat(a, b.integer(), runtime.budget);
  if (op == "*" && a.integral() && (b.text() || b.items())) return Repeat(b, a.integer(), runtime.budget);
  if (op == "%" && a.text()) {
    EBB_ASSIGN_OR_RETURN(Text text, FormatPercent(*a.text(), b, runtime));
    return Value(std::move(text));
  }
  return Unfit(op, a, b);
}

absl::StatusOr<Value> Negated(const Value& a) {
  if (a.undefined()) return Refused(*a.As<Undefined>()->what);
  if (!a.number()) return Refused(absl::StrCat("'-' does not take ", a.TypeName()));
  if (!a.integral()) return Value(-a.real());
  return IntegerArithmetic("-", 0, a.integer());
}

absl::StatusOr<bool> Less(const Value& a, const Value& b, Budget& budget) {
  if (!budget.Spend()) return budget.status();
  for (const Value* v : {&a, &b}) {
    if (v->undefined()) return Refused(*v->As<Undefined>()->what);
  }
  if (a.number() && b.number()) return CompareNumbers(a, b) == -1;
  if (a.text() && b.text()) {
    budget.SpendBytes(std::min(a.text()->size(), b.text()->size()));
    return a.text()->bytes() < b.text()->bytes();  // UTF-8 orders as code points do
  }
  if ((a.list() && b.list()) || (a.tuple() && b.tuple())) return LessItems(*a.items(), *b.items(), budget);
  return Unfit("<", a, b);
}

absl::StatusOr<bool> Compare(std::string_view op, const Value& a, const Value& b, Runtime& runtime) {
  if (op == "==") return Equal(a, b, runtime.budget);
  if (op == "!=") return !Equal(a, b, runtime.budget);
  if (op == "in") return Contains(b, a, runtime);
  if (op == "not in") {
    EBB_ASSIGN_OR_RETURN(const bool holds, Contains(b, a, runtime));
    return !holds;
  }
  if (a.number() && b.number() && CompareNumbers(a, b) == 2) return false;  // NaN
  if (op == "<") return Less(a, b, runtime.budget);
  if (op == ">") return Less(b, a, runtime.budget);
  EBB_ASSIGN_OR_RETURN(const bool holds, op == "<=" ? Less(b, a, runtime.budget) : Less(a, b, runtime.budget));
  return !holds;
}

absl::StatusOr<bool> Contains(const Value& container, const Value& item, Runtime& runtime) {
  Budget& budget = runtime.budget;
  if (container.text()) {
    if (!item.text()) return Refused(absl::StrCat("'in' needs a string to look for in a string, not ", item.TypeName()));
    budget.SpendBytes(container.text()->size());
    return FindIn(container.text()->bytes(), item.text()->bytes()) != std::string::npos;
  }
  const Dict* dict = container.dict();
  if (container.view() && container.view()->kind == ViewKind::kKeys) dict = &container.view()->dict->items;
  if (dict != nullptr) {
    item.SpendOnce(budget);
    if (!Hash(item)) return Refused(absl::StrCat("unhashable type: '", item.TypeName(), "'"));
    return dict->Find(item) != nullptr;
  }
  absl::StatusOr<Cursor> cursor = Cursor::Over(container, runtime);
  if (!cursor.ok()) return Refused(absl::StrCat("'in' does not look into ", container.TypeName()));
  for (Value other;;) {
    EBB_ASSIGN_OR_RETURN(const bool more, cursor->Next(&other));
    if (!more) return false;
    if (Same(other, item) || Equal(other, item, budget)) return true;
    if (!budget.ok()) return budget.status();
  }
}

// A merge sort of our own: std::stable_sort must not be given an order that fails half-way.
absl::Status SortBy(List& keys, List& values, bool reverse, Runtime& runtime) {
  const size_t n = keys.size();
  if (!runtime.budget.SpendItems(2 * n)) return runtime.budget.status();
  List merged_keys(n), merged_values(n);
  for (size_t width = 1; width < n; width *= 2) {
    for (size_t begin = 0; begin < n; begin += 2 * width) {
      const size_t middle = std::min(begin + width, n), end = std::min(begin + 2 * width, n);
      size_t a = begin, b = middle;
      for (size_t i = begin; i < end; ++i) {
        bool second = a == middle;
        if (a < middle && b < end) {
          EBB_ASSIGN_OR_RETURN(second, reverse ? Less(keys[a], keys[b], runtime.budget) : Less(keys[b], keys[a], runtime.budget));
        }
        const size_t from = second ? b++ : a++;
        merged_keys[i] = keys[from];
        merged_values[i] = values[from];
      }
    }
    keys.swap(merged_keys);
    values.swap(merged_values);
  }
  return absl::OkStatus();
}

}  // namespace ebbinghaus::jinja
