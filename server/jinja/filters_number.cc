// Filters over numbers, and where filters are found.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/strings.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<Value>;

Result Absolute(const Value& input, Bound, Runtime&) {
  if (!input.number()) return Refused(absl::StrCat("abs needs a number, not ", input.TypeName()));
  if (!input.integral()) return Value(std::abs(input.real()));
  return input.integer() < 0 ? Negated(input) : Value(input.integer());
}

Result ToInteger(const Value& input, Bound a, Runtime&) {
  const Value fallback = a[0] ? *a[0] : Value(int64_t{0});
  if (input.undefined()) return Refused(*input.As<Undefined>()->what);
  if (input.integral()) return Value(input.integer());
  if (input.number()) {
    if (std::isnan(input.real())) return fallback;
    EBB_ASSIGN_OR_RETURN(const int64_t whole, Truncated(input.real()));
    return Value(whole);
  }
  if (!input.text()) return fallback;
  EBB_ASSIGN_OR_RETURN(const int64_t base, a[1] ? IntegerArgument(*a[1], "base") : absl::StatusOr<int64_t>(10));
  EBB_ASSIGN_OR_RETURN(const std::optional<int64_t> whole, ParseInteger(input.text()->bytes(), base));
  if (whole) return Value(*whole);
  const std::optional<double> real = ParseReal(input.text()->bytes());
  if (!real || !std::isfinite(*real)) return fallback;
  EBB_ASSIGN_OR_RETURN(const int64_t cut, Truncated(*real));
  return Value(cut);
}

Result ToReal(const Value& input, Bound a, Runtime&) {
  if (input.undefined()) return Refused(*input.As<Undefined>()->what);
  if (input.number()) return Value(input.real());
  const std::optional<double> real = input.text() ? ParseReal(input.text()->bytes()) : std::nullopt;
  if (real) return Value(*real);
  return a[0] ? *a[0] : Value(0.0);
}

// Python's round of a float: to the nearest decimal, of two the even one.
Result RoundReal(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return Value(value);
  if (digits >= 0) return Value(std::strtod(Fixed(value, static_cast<int>(digits)).c_str(), nullptr));
  if (digits < -300) return Value(std::copysign(0.0, value));
  const double unit = std::pow(10.0, static_cast<double>(-digits));
  return Value(std::nearbyint(value / unit) * unit);
}

Result RoundInteger(int64_t value, int64_t digits) {
  if (digits >= 0) return Value(value);
  if (digits < -18) return Value(int64_t{0});
  __int128 unit = 1;
  for (int64_t i = 0; i < -digits; ++i) unit *= 10;
  __int128 rest = value % unit;
  if (rest < 0) rest += unit;
  __int128 rounded = value - rest;
  const bool odd = (rounded / unit) % 2 != 0;
  if (2 * rest > unit || (2 * rest == unit && odd)) rounded += unit;
  if (rounded > INT64_MAX || rounded < INT64_MIN) return Refused("an integer beyond 64 bits is not supported");
  return Value(static_cast<int64_t>(rounded));
}

Result Round(const Value& input, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const int64_t digits, a[0] ? IntegerArgument(*a[0], "precision") : absl::StatusOr<int64_t>(0));
  const std::string method = a[1] && a[1]->text() ? a[1]->text()->bytes() : a[1] ? "" : "common";
  if (method != "common" && method != "ceil" && method != "floor") return Refused("method must be common, ceil or floor");
  if (!input.number()) return Refused(absl::StrCat("round needs a number, not ", input.TypeName()));
  if (method == "common") return input.integral() ? RoundInteger(input.integer(), digits) : RoundReal(input.real(), digits);
  EBB_ASSIGN_OR_RETURN(const Value unit, Binary("**", Value(int64_t{10}), Value(digits), runtime));
  EBB_ASSIGN_OR_RETURN(const Value scaled, Binary("*", input, unit, runtime));
  EBB_ASSIGN_OR_RETURN(const int64_t whole, scaled.integral() ? absl::StatusOr<int64_t>(scaled.integer())
                                                              : Truncated(method == "ceil" ? std::ceil(scaled.real()) : std::floor(scaled.real())));
  return Binary("/", Value(whole), unit, runtime);
}

Result FileSize(const Value& input, Bound a, Runtime&) {
  double bytes = input.real();
  if (input.text()) {
    const std::optional<double> parsed = ParseReal(input.text()->bytes());
    if (!parsed) return Refused("filesizeformat: could not convert string to float");
    bytes = *parsed;
  } else if (!input.number()) {
    return Refused(absl::StrCat("filesizeformat needs a number, not ", input.TypeName()));
  }
  const bool binary = a[0] != nullptr && a[0]->Truth();
  const double base = binary ? 1024 : 1000;
  if (bytes == 1) return Value::Of("1 Byte");
  if (bytes < base) {
    EBB_ASSIGN_OR_RETURN(const int64_t whole, Truncated(bytes));
    return Value::Of(absl::StrCat(whole, " Bytes"));
  }
  double unit = base;
  for (const char* prefix : {"k", "M", "G", "T", "P", "E", "Z", "Y"}) {
    unit *= base;
    if (bytes < unit || *prefix == 'Y') {
      const std::string letter = binary && *prefix == 'k' ? "K" : prefix;
      return Value::Of(absl::StrCat(Fixed(base * bytes / unit, 1), " ", letter, binary ? "iB" : "B"));
    }
  }
  return Refused("filesizeformat: not a number");
}

}  // namespace

absl::Span<const Filter> NumberFilters() {
  static const Filter kFilters[] = {
      {"abs", {"/"}, Absolute}, {"int", {"default,base"}, ToInteger}, {"float", {"default"}, ToReal},
      {"round", {"precision,method"}, Round}, {"filesizeformat", {"binary"}, FileSize}};
  return kFilters;
}

const Filter* FindFilter(std::string_view name) {
  static const auto* filters = [] {
    auto* all = new std::map<std::string_view, const Filter*>;
    for (const auto& group : {SequenceFilters(), AttributeFilters(), TextFilters(), MarkupFilters(), NumberFilters()}) {
      for (const Filter& filter : group) (*all)[filter.name] = &filter;
    }
    return all;
  }();
  const auto found = filters->find(name);
  return found == filters->end() ? nullptr : found->second;
}

absl::StatusOr<Value> ApplyFilter(const Filter& filter, const Value& input, const Arguments& arguments, Runtime& runtime) {
  if (!runtime.budget.Spend() || !input.SpendOnce(runtime.budget)) return runtime.budget.status();
  if (filter.all != nullptr) return filter.all(input, arguments, runtime);
  EBB_ASSIGN_OR_RETURN(const auto bound, filter.signature.Bind(filter.name, arguments));
  return filter.apply(input, bound, runtime);
}

}  // namespace ebbinghaus::jinja
