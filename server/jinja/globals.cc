// Functions that every template can call.
#include <cstdio>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {
namespace {

using Result = absl::StatusOr<Value>;

constexpr Signature kJoiner{"sep"}, kRaise{"message", 1}, kFormatNow{"format", 1};

Result MakeRange(const Arguments& arguments) {
  constexpr int64_t kMaxRange = 100'000;  // jinja2's sandbox allows no more
  int64_t n[3] = {0, 0, 1};
  const auto& given = arguments.positional;
  if (!arguments.named.empty() || given.empty() || given.size() > 3) return Refused("range() takes one to three numbers");
  for (size_t i = 0; i < given.size(); ++i) {
    EBB_ASSIGN_OR_RETURN(n[given.size() == 1 ? 1 : i], IntegerArgument(given[i], "range"));
  }
  if (n[2] == 0) return Refused("range() arg 3 must not be zero");
  const Range range{n[0], n[1], n[2]};
  const __int128 span = (static_cast<__int128>(n[1]) - n[0]) / n[2];
  if (span > kMaxRange || range.size() > kMaxRange) return Refused(absl::StrCat("range too big: at most ", kMaxRange, " items"));
  return Value(range);
}

// dict() and namespace(): a mapping or pairs, and names.
absl::StatusOr<Dict> MakeDict(const Arguments& arguments, Runtime& runtime) {
  Dict dict;
  if (arguments.positional.size() > 1) return Refused("dict() takes at most one positional argument");
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    EBB_ASSIGN_OR_RETURN(const List items, Items(from.dict() ? Value(View{from.dict_nest(), ViewKind::kItems}) : from, runtime));
    for (const Value& item : items) {
      EBB_ASSIGN_OR_RETURN(const List pair, Items(item, runtime));
      if (pair.size() != 2) return Refused("dict() needs pairs");
      if (!Hash(pair[0])) return Refused(absl::StrCat("unhashable type: '", pair[0].TypeName(), "'"));
      dict.Set(pair[0], pair[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) dict.Set(name, value);
  if (!runtime.budget.SpendItems(dict.size())) return runtime.budget.status();
  return dict;
}

Result MakeNamespace(const Arguments& arguments, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(Dict attributes, MakeDict(arguments, runtime));
  auto* space = runtime.heap.New<Namespace>(runtime.budget);
  space->attributes = std::move(attributes);
  return Value(static_cast<Object*>(space));
}

Result MakeCycler(const Arguments& arguments, Runtime& runtime) {
  if (!arguments.named.empty() || arguments.positional.empty()) return Refused("cycler() needs one item at least");
  auto* cycler = runtime.heap.New<Cycler>(runtime.budget);
  cycler->items = arguments.positional;
  return Value(static_cast<Object*>(cycler));
}

Result MakeJoiner(const Arguments& arguments, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const auto bound, kJoiner.Bind("joiner", arguments));
  auto* joiner = runtime.heap.New<Joiner>(runtime.budget);
  joiner->separator = bound[0] ? *bound[0] : Value::Of(", ");
  return Value(static_cast<Object*>(joiner));
}

Result Raise(const Arguments& arguments, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const auto bound, kRaise.Bind("raise_exception", arguments));
  EBB_ASSIGN_OR_RETURN(const Text message, Str(*bound[0], runtime.budget));
  return absl::AbortedError(Redacted(message));
}

// datetime.now().strftime(format): local time, to the second.
Result FormatNow(const Arguments& arguments, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const auto bound, kFormatNow.Bind("strftime_now", arguments));
  EBB_ASSIGN_OR_RETURN(const Text* form, TextArgument(*bound[0], "format"));
  if (form->size() > 1000) return Refused("strftime_now: the format is too long");
  std::string plain;
  const std::string& s = form->bytes();
  for (size_t i = 0; i < s.size(); ++i) {
    const char next = s[i] == '%' && i + 1 < s.size() ? s[i + 1] : 0;
    if (next == 'f') plain += "000000";  // microseconds, which C does not know
    else if (next != 'z' && next != 'Z') plain += s.substr(i, next ? 2 : 1);  // it has no time zone
    i += next != 0;
  }
  if (plain.empty()) return Value(Text());
  std::tm local{};
  if (localtime_r(&runtime.now, &local) == nullptr) return Refused("strftime_now: the clock is out of range");
  std::string out(8192, '\0');
  out.resize(std::strftime(out.data(), out.size(), plain.c_str(), &local));
  return Value(Text(std::move(out), form->any_marked()));
}

}  // namespace

bool IsGlobalFunction(std::string_view name) {
  for (const std::string_view known : {"range", "dict", "namespace", "cycler", "joiner", "lipsum", "raise_exception", "strftime_now"}) {
    if (name == known) return true;
  }
  return false;
}

absl::StatusOr<Value> CallGlobal(const std::string& name, const Arguments& arguments, Runtime& runtime) {
  if (name == "range") return MakeRange(arguments);
  if (name == "namespace") return MakeNamespace(arguments, runtime);
  if (name == "cycler") return MakeCycler(arguments, runtime);
  if (name == "joiner") return MakeJoiner(arguments, runtime);
  if (name == "raise_exception") return Raise(arguments, runtime);
  if (name == "strftime_now") return FormatNow(arguments, runtime);
  if (name == "lipsum") return Refused("the function 'lipsum' is not supported: a prompt must not depend on chance");
  EBB_ASSIGN_OR_RETURN(Dict dict, MakeDict(arguments, runtime));
  return Value::Of(std::move(dict));
}

}  // namespace ebbinghaus::jinja
