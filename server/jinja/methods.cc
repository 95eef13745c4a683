// Methods of all types but str, and how arguments meet parameters.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/loop.h"
#include "server/jinja/strings.h"

namespace ebbinghaus::jinja {

absl::Status Refused(std::string_view what) { return absl::InvalidArgumentError(std::string(what)); }

std::string Redacted(const Text& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!text.marked(i)) out += text.bytes()[i];
    else if (i == 0 || !text.marked(i - 1)) out += "...";
  }
  return out;
}

absl::StatusOr<const Text*> TextArgument(const Value& value, std::string_view what) {
  if (value.text()) return value.text();
  return Refused(absl::StrCat("the argument '", std::string(what), "' must be a string, not ", value.TypeName()));
}

absl::StatusOr<int64_t> IntegerArgument(const Value& value, std::string_view what) {
  if (value.integral()) return value.integer();
  return Refused(absl::StrCat("the argument '", std::string(what), "' must be an integer, not ", value.TypeName()));
}

absl::StatusOr<std::vector<const Value*>> Signature::Bind(std::string_view function, const Arguments& arguments) const {
  std::string_view names = parameters;
  const bool positional_only = !names.empty() && names[0] == '/';
  if (positional_only) names.remove_prefix(1);
  std::vector<const Value*> bound;
  const auto error = [&](std::string_view what) { return Refused(absl::StrCat(std::string(function), "(): ", std::string(what))); };
  std::vector<std::string_view> order;
  while (!names.empty()) {
    const size_t comma = std::min(names.find(','), names.size());
    order.push_back(names.substr(0, comma));
    names.remove_prefix(std::min(comma + 1, names.size()));
  }
  bound.resize(order.size());
  if (arguments.positional.size() > order.size()) return error("too many arguments");
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(order.begin(), order.end(), name);
    if (positional_only || found == order.end()) return error(absl::StrCat("unknown keyword argument '", name.substr(0, 40), "'"));
    const Value*& place = bound[static_cast<size_t>(found - order.begin())];
    if (place != nullptr) return error(absl::StrCat("the argument '", name, "' is given twice"));
    place = &value;
  }
  for (int i = 0; i < required; ++i) {
    if (bound[static_cast<size_t>(i)] == nullptr) return error(absl::StrCat("the argument '", std::string(order[static_cast<size_t>(i)]), "' is missing"));
  }
  return bound;
}

namespace {

using Method = absl::StatusOr<Value> (*)(const Value& self, Bound a, Runtime& runtime);

absl::StatusOr<Value> CountItems(const Value& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const List items, Items(self, runtime));
  return Value(static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& item) {
    return Same(item, *a[0]) || Equal(item, *a[0], runtime.budget);
  })));
}

absl::StatusOr<Value> IndexOfItem(const Value& self, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const List items, Items(self, runtime));
  int64_t ends[2] = {0, std::numeric_limits<int64_t>::max()};
  for (size_t i = 0; i < 2 && i + 1 < a.size(); ++i) {
    if (a[i + 1] == nullptr) continue;
    EBB_ASSIGN_OR_RETURN(ends[i], IntegerArgument(*a[i + 1], "start or stop"));
    if (ends[i] < 0) ends[i] = std::max<int64_t>(0, ends[i] + static_cast<int64_t>(items.size()));
  }
  for (int64_t i = ends[0]; i < std::min(ends[1], static_cast<int64_t>(items.size())); ++i) {
    const Value& item = items[static_cast<size_t>(i)];
    if (Same(item, *a[0]) || Equal(item, *a[0], runtime.budget)) return Value(i);
  }
  return Refused("the value is not in the list");
}

absl::StatusOr<Value> Itself(const Value& self, Bound, Runtime&) { return self; }

absl::StatusOr<Value> CopyList(const Value& self, Bound, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(List items, Items(self, runtime));
  return Value::Of(std::move(items));
}

absl::StatusOr<Value> CopyDict(const Value& self, Bound, Runtime& runtime) {
  if (!runtime.budget.SpendItems(self.dict()->size())) return runtime.budget.status();
  return Value::Of(Dict(*self.dict()));
}

absl::StatusOr<Value> Get(const Value& self, Bound a, Runtime& runtime) {
  a[0]->SpendOnce(runtime.budget);
  if (!Hash(*a[0])) return Refused(absl::StrCat("unhashable type: '", a[0]->TypeName(), "'"));
  const Value* value = self.dict()->Find(*a[0]);
  if (value != nullptr) return *value;
  return a[1] != nullptr ? *a[1] : Value(None{});
}

template <ViewKind kind>
absl::StatusOr<Value> MakeView(const Value& self, Bound, Runtime&) {
  return Value(View{self.dict_nest(), kind});
}

absl::StatusOr<Value> FromKeys(const Value&, Bound a, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const List keys, Items(*a[0], runtime));
  Dict dict;
  for (const Value& key : keys) {
    if (!Hash(key)) return Refused(absl::StrCat("unhashable type: '", key.TypeName(), "'"));
    dict.Set(key, a[1] != nullptr ? *a[1] : Value(None{}));
  }
  return Value::Of(std::move(dict));
}

absl::StatusOr<Value> IsInteger(const Value& self, Bound, Runtime&) {
  return Value(std::isfinite(self.real()) && std::trunc(self.real()) == self.real());
}

uint64_t Magnitude(const Value& self) {
  const int64_t i = self.integer();
  return i < 0 ? 0 - static_cast<uint64_t>(i) : static_cast<uint64_t>(i);
}

absl::StatusOr<Value> BitLength(const Value& self, Bound, Runtime&) {
  const uint64_t n = Magnitude(self);
  return Value(int64_t{n == 0 ? 0 : 64 - __builtin_clzll(n)});
}

absl::StatusOr<Value> BitCount(const Value& self, Bound, Runtime&) {
  return Value(int64_t{__builtin_popcountll(Magnitude(self))});
}

absl::StatusOr<Value> Conjugate(const Value& self, Bound, Runtime&) {
  return self.As<bool>() ? Value(self.integer()) : self;
}

absl::StatusOr<Value> Unsupported(const Value& self, Bound, Runtime&) {
  return Refused(absl::StrCat("this method of ", self.TypeName(), " is not supported"));
}

struct Entry {
  Signature signature;
  Method method;
};
using Methods = std::map<std::string_view, Entry>;

const Methods* MethodsOf(const Value& self) {
  static const auto* list = new Methods{{"count", {{"/value", 1}, CountItems}}, {"index", {{"/value,start,stop", 1}, IndexOfItem}}, {"copy", {{"/"}, CopyList}}};
  static const auto* tuple = new Methods{{"count", {{"/value", 1}, CountItems}}, {"index", {{"/value,start,stop", 1}, IndexOfItem}}};
  static const auto* range = new Methods{{"count", {{"/value", 1}, CountItems}}, {"index", {{"/value", 1}, IndexOfItem}}};
  static const auto* dict = new Methods{
      {"get", {{"/key,default", 1}, Get}}, {"keys", {{"/"}, MakeView<ViewKind::kKeys>}}, {"values", {{"/"}, MakeView<ViewKind::kValues>}},
      {"items", {{"/"}, MakeView<ViewKind::kItems>}}, {"copy", {{"/"}, CopyDict}}, {"fromkeys", {{"/iterable,value", 1}, FromKeys}}};
  static const auto* view = new Methods{{"mapping", {{}, Unsupported}}, {"isdisjoint", {{"/other", 1}, Unsupported}}};
  static const auto* integer = new Methods{
      {"bit_length", {{"/"}, BitLength}}, {"bit_count", {{"/"}, BitCount}}, {"conjugate", {{"/"}, Conjugate}},
      {"as_integer_ratio", {{"/"}, Unsupported}}, {"to_bytes", {{"length,byteorder,signed"}, Unsupported}}, {"from_bytes", {{"bytes,byteorder,signed"}, Unsupported}}};
  static const auto* real = new Methods{
      {"is_integer", {{"/"}, IsInteger}}, {"conjugate", {{"/"}, Itself}}, {"as_integer_ratio", {{"/"}, Unsupported}},
      {"hex", {{"/"}, Unsupported}}, {"fromhex", {{"/string"}, Unsupported}}};
  if (self.list()) return list;
  if (self.tuple()) return tuple;
  if (self.range()) return range;
  if (self.dict()) return dict;
  if (self.view()) return view;
  if (self.integral()) return integer;
  return self.number() ? real : nullptr;
}

absl::StatusOr<Value> CallCycler(Cycler& cycler, const std::string& name, const Arguments& arguments) {
  if (!arguments.positional.empty() || !arguments.named.empty()) return Refused(absl::StrCat("cycler.", name, "() takes no arguments"));
  if (name == "reset") {
    cycler.position = 0;
    return Value(None{});
  }
  const Value current = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return current;
}

}  // namespace

bool HasMethod(const Value& object, std::string_view name) {
  if (object.text()) return HasTextMethod(name);
  const Methods* methods = MethodsOf(object);
  return methods != nullptr && methods->count(name) != 0;
}

absl::StatusOr<Value> CallMethod(const BoundMethod& method, const Arguments& arguments, Runtime& runtime) {
  const Value& self = method.self;
  for (const Value& value : arguments.positional) value.SpendOnce(runtime.budget);
  if (self.text()) return CallTextMethod(*self.text(), method.name, arguments, runtime);
  if (auto* cycler = dynamic_cast<Cycler*>(self.object())) return CallCycler(*cycler, method.name, arguments);
  if (auto* loop = dynamic_cast<LoopContext*>(self.object())) {
    if (method.name == "cycle") return loop->Cycle(arguments);
    if (!arguments.named.empty()) return Refused("loop.changed() takes no keyword arguments");
    return loop->Changed(arguments, runtime.budget);
  }
  const Entry& entry = MethodsOf(self)->at(method.name);
  EBB_ASSIGN_OR_RETURN(const auto bound, entry.signature.Bind(method.name, arguments));
  return entry.method(self, bound, runtime);
}

}  // namespace ebbinghaus::jinja
