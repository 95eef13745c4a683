// What stands behind a dot or in brackets.
#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/loop.h"

namespace ebbinghaus::jinja {
namespace {

// Names that a caller made up are not repeated in errors.
Value NoAttribute(const Value& object, const Text& name) {
  if (name.any_marked()) return Value::Not("an item that a caller named is undefined");
  return Value::Not(absl::StrCat("'", object.TypeName(), " object' has no attribute '", name.bytes(), "'"));
}

absl::StatusOr<Value> ObjectAttribute(Object* object, const std::string& name, bool* found, Runtime& runtime) {
  *found = true;
  if (auto* space = dynamic_cast<Namespace*>(object)) {
    const Value* value = space->attributes.Find(name);
    if (value != nullptr) return *value;
  } else if (auto* loop = dynamic_cast<LoopContext*>(object)) {
    EBB_ASSIGN_OR_RETURN(Value value, loop->Attribute(name));
    if (!value.missing()) return value;
    if (name == "cycle" || name == "changed") return Value(static_cast<Object*>(runtime.heap.New<BoundMethod>(runtime.budget, Value(object), name)));
  } else if (auto* cycler = dynamic_cast<Cycler*>(object)) {
    if (name == "current") return cycler->items[cycler->position];
    if (name == "items") return Value::Tuple(cycler->items);
    if (name == "pos") return Value(static_cast<int64_t>(cycler->position));
    if (name == "next" || name == "reset") return Value(static_cast<Object*>(runtime.heap.New<BoundMethod>(runtime.budget, Value(object), name)));
  } else if (auto* joiner = dynamic_cast<Joiner*>(object)) {
    if (name == "sep") return joiner->separator;
    if (name == "used") return Value(joiner->used);
  } else if (auto* macro = dynamic_cast<MacroObject*>(object)) {
    const Value value = macro->Attribute(name);
    if (!value.missing()) return value;
  } else if (auto* function = dynamic_cast<GlobalFunction*>(object); function && function->name == "dict") {
    return Refused("attributes of dict are not supported");
  } else if (dynamic_cast<Iterator*>(object) && (name == "send" || name == "throw" || name == "close" || absl::StartsWith(name, "gi_"))) {
    return Refused("attributes of a generator are not supported");
  }
  *found = false;
  return Value(Missing{});
}

// What Python's getattr finds; Missing for nothing.
absl::StatusOr<Value> Own(const Value& object, const std::string& name, Runtime& runtime) {
  if (absl::StartsWith(name, "__") && absl::EndsWith(name, "__")) {
    static constexpr std::string_view kEverywhere[] = {"__class__", "__doc__", "__dict__", "__init__", "__eq__", "__str__", "__repr__", "__hash__", "__len__", "__iter__"};
    for (const std::string_view known : kEverywhere) {
      if (name == known && !object.object()) return Value::Not(absl::StrCat("access to attribute '", name, "' is unsafe"));
    }
    return Value(Missing{});
  }
  if (object.object()) {
    bool found = false;
    return ObjectAttribute(object.object(), name, &found, runtime);
  }
  if (const TupleNest* nest = object.tuple_nest(); nest && nest->group) {
    if (name == "grouper") return nest->items[0];
    if (name == "list") return nest->items[1];
  }
  if (const Range* r = object.range()) {
    if (name == "start") return Value(r->start);
    if (name == "stop") return Value(r->stop);
    if (name == "step") return Value(r->step);
  }
  if (object.number()) {
    if (name == "real") return object.As<bool>() ? Value(object.integer()) : object;
    if (name == "imag") return object.integral() ? Value(int64_t{0}) : Value(0.0);
    if (object.integral() && name == "numerator") return Value(object.integer());
    if (object.integral() && name == "denominator") return Value(int64_t{1});
  }
  static constexpr std::string_view kListChanges[] = {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"};
  static constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
  const auto changes = [&](const auto& names) { return std::find(std::begin(names), std::end(names), name) != std::end(names); };
  if ((object.list() && changes(kListChanges)) || (object.dict() && changes(kDictChanges))) {
    return Value::Not(absl::StrCat("access to attribute '", name, "' of '", object.TypeName(), "' object is unsafe"));
  }
  if (!HasMethod(object, name)) return Value(Missing{});
  return Value(static_cast<Object*>(runtime.heap.New<BoundMethod>(runtime.budget, object, name)));
}

absl::StatusOr<Value> AtIndex(const Value& object, int64_t index, Runtime& runtime) {
  EBB_ASSIGN_OR_RETURN(const int64_t size, Length(object));
  if (index < 0) index += size;
  if (index < 0 || index >= size) return Value::Not(absl::StrCat("the '", object.TypeName(), "' has no item at that index"));
  const auto i = static_cast<size_t>(index);
  if (object.items()) return (*object.items())[i];
  if (object.range()) return Value(object.range()->at(index));
  object.SpendOnce(runtime.budget);
  const CodePoints points(object.text()->bytes());
  return Value(object.text()->Slice(points.offset(i), points.offset(i + 1)));
}

absl::StatusOr<int64_t> Bound_(const Value& value, int64_t fallback, int64_t size, int64_t low, int64_t high) {
  if (value.none()) return fallback;
  if (!value.integral()) return Refused("slice bounds must be whole numbers");
  int64_t bound = value.integer();
  if (bound < 0) bound = bound < -size ? std::numeric_limits<int64_t>::min() : bound + size;
  return std::clamp(bound, low, high);
}

}  // namespace

absl::StatusOr<Value> Attribute(const Value& object, const Text& name, Runtime& runtime) {
  if (!runtime.budget.Spend()) return runtime.budget.status();
  if (object.undefined()) return Refused(*object.As<Undefined>()->what);
  EBB_ASSIGN_OR_RETURN(Value own, Own(object, name.bytes(), runtime));
  if (!own.missing()) return own;
  if (object.dict()) {
    if (const Value* item = object.dict()->Find(name.bytes())) return *item;
  }
  return NoAttribute(object, name);
}

absl::StatusOr<Value> Item(const Value& object, const Value& key, Runtime& runtime) {
  if (!runtime.budget.Spend()) return runtime.budget.status();
  key.SpendOnce(runtime.budget);
  if (object.undefined()) return Refused(*object.As<Undefined>()->what);
  if (object.dict()) {
    if (const Value* item = object.dict()->Find(key)) return *item;
  } else if (key.integral() && (object.items() || object.text() || object.range())) {
    return AtIndex(object, key.integer(), runtime);
  }
  if (!key.text()) return Value::Not(absl::StrCat("the '", object.TypeName(), "' has no such item"));
  EBB_ASSIGN_OR_RETURN(Value own, Own(object, key.text()->bytes(), runtime));
  return own.missing() ? NoAttribute(object, *key.text()) : own;
}

absl::StatusOr<Value> Slice(const Value& object, const Value& start, const Value& stop, const Value& step, Runtime& runtime) {
  if (object.undefined()) return Refused(*object.As<Undefined>()->what);
  if (!object.text() && !object.items() && !object.range()) return Refused(absl::StrCat("a '", object.TypeName(), "' has no slices"));
  if (!object.SpendOnce(runtime.budget)) return runtime.budget.status();
  EBB_ASSIGN_OR_RETURN(const int64_t size, Length(object));
  if (!step.none() && !step.integral()) return Refused("slice bounds must be whole numbers");
  const int64_t by = step.none() ? 1 : std::max(step.integer(), -std::numeric_limits<int64_t>::max());
  if (by == 0) return Refused("slice step cannot be zero");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  EBB_ASSIGN_OR_RETURN(const int64_t begin, Bound_(start, by > 0 ? 0 : size - 1, size, low, high));
  EBB_ASSIGN_OR_RETURN(const int64_t end, Bound_(stop, by > 0 ? size : -1, size, low, high));
  const int64_t count = Range{begin, end, by}.size();
  if (const Range* r = object.range()) {
    int64_t wide = 0, first = 0, last = 0;
    if (__builtin_mul_overflow(r->step, by, &wide) || __builtin_mul_overflow(end, r->step, &last) ||
        __builtin_add_overflow(last, r->start, &last) || __builtin_mul_overflow(begin, r->step, &first) ||
        __builtin_add_overflow(first, r->start, &first)) {
      return Refused("an integer beyond 64 bits is not supported");
    }
    return Value(Range{first, last, wide});
  }
  if (object.text()) {
    const CodePoints points(object.text()->bytes());
    Text text = Text().WithMarkup(object.text()->markup());
    if (by == 1) return Value(object.text()->Slice(points.offset(static_cast<size_t>(begin)), points.offset(static_cast<size_t>(std::max(begin, end)))));
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(begin + i * by);
      text.Append(*object.text(), points.offset(at), points.offset(at + 1));
    }
    return Value(std::move(text));
  }
  List items;
  for (int64_t i = 0; i < count; ++i) items.push_back((*object.items())[static_cast<size_t>(begin + i * by)]);
  return object.list() ? Value::Of(std::move(items)) : Value::Tuple(std::move(items));
}

absl::StatusOr<Value> ByPath(Value object, const Value& path, const Value* fallback, Runtime& runtime) {
  if (path.none()) return object;
  if (!path.text()) {
    EBB_ASSIGN_OR_RETURN(object, Item(object, path, runtime));
    return object.undefined() && fallback != nullptr ? *fallback : object;
  }
  const Text& text = *path.text();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.bytes().find('.', begin), text.size());
    const Text part = text.Slice(begin, end).WithMarkup(false);
    const bool digits = !part.empty() && std::all_of(part.bytes().begin(), part.bytes().end(), [](char c) { return c >= '0' && c <= '9'; });
    const Value key = digits && part.size() < 19 ? Value(static_cast<int64_t>(std::stoll(part.bytes()))) : Value(part);
    EBB_ASSIGN_OR_RETURN(object, Item(object, key, runtime));
    if (object.undefined() && fallback != nullptr) object = *fallback;
    begin = end + 1;
  }
  return object;
}

}  // namespace ebbinghaus::jinja
