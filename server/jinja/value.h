// The values of the template language: what Jinja gets from Python.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "server/jinja/budget.h"
#include "server/jinja/text.h"

namespace ebbinghaus::jinja {

class Value;
class Dict;
struct Object;  // what has an identity: heap.h
using List = std::vector<Value>;

struct Missing {};  // no value at all: a variable before it is set
struct Undefined {
  std::shared_ptr<const std::string> what;  // why, as the message of an error
};
struct None {};
struct Range {
  int64_t start = 0, stop = 0, step = 1;
  int64_t size() const;
  // The result fits, though what it takes on the way may not.
  int64_t at(int64_t i) const {
    return static_cast<int64_t>(static_cast<uint64_t>(start) + static_cast<uint64_t>(i) * static_cast<uint64_t>(step));
  }
};

struct ListNest;
struct TupleNest;
struct DictNest;
enum class ViewKind { kKeys, kValues, kItems };
struct View {  // what dict.keys(), values() and items() give
  std::shared_ptr<const DictNest> dict;
  ViewKind kind;
};

// Cheap to copy: what can be large is shared and never changes. Only objects change; the rendering
// owns them, so that values holding one another need no collector.
class Value {
 public:
  using Variant = std::variant<Missing, Undefined, None, bool, int64_t, double,
                               std::shared_ptr<const Text>, std::shared_ptr<const ListNest>,
                               std::shared_ptr<const TupleNest>, std::shared_ptr<const DictNest>,
                               std::shared_ptr<const View>, std::shared_ptr<const Range>, Object*>;
  static constexpr int kMaxDepth = 100;  // of lists and the like inside one another

  Value() : v(None{}) {}
  template <typename T>
    requires(std::is_same_v<T, Missing> || std::is_same_v<T, Undefined> || std::is_same_v<T, None> ||
             std::is_same_v<T, bool> || std::is_same_v<T, int64_t> || std::is_same_v<T, double>)
  Value(T value) : v(std::move(value)) {}  // NOLINT: implicit on purpose, a Value is any of these
  explicit Value(Text text) : v(std::make_shared<const Text>(std::move(text))) {}
  explicit Value(Object* object) : v(object) {}
  explicit Value(Range range) : v(std::make_shared<const Range>(range)) {}
  explicit Value(View view) : v(std::make_shared<const View>(std::move(view))) {}

  static Value Of(std::string text) { return Value(Text(std::move(text))); }
  static Value Of(List list);
  static Value Of(Dict dict);
  static Value Tuple(List items);
  static Value Group(Value grouper, Value list);  // a tuple whose items also have names
  static Value Not(std::string what);             // Undefined, with that message

  template <typename T>
  const T* As() const { return std::get_if<T>(&v); }
  const Text* text() const { return Shared<Text>(); }
  const List* list() const;
  const List* tuple() const;
  const TupleNest* tuple_nest() const { return Shared<TupleNest>(); }
  const Dict* dict() const;
  std::shared_ptr<const DictNest> dict_nest() const;
  const View* view() const { return Shared<View>(); }
  const Range* range() const { return Shared<Range>(); }
  Object* object() const { auto* p = As<Object*>(); return p ? *p : nullptr; }
  const List* items() const { return list() ? list() : tuple(); }  // of a list or tuple
  bool missing() const { return As<Missing>() != nullptr; }
  bool undefined() const { return As<Undefined>() != nullptr; }
  bool none() const { return As<None>() != nullptr; }
  bool integral() const { return As<bool>() || As<int64_t>(); }
  bool number() const { return integral() || As<double>(); }
  double real() const;      // of a number
  int64_t integer() const;  // of a bool or integer

  // How many lists, tuples and mappings lie inside one another here: 0 for a scalar.
  int depth() const;
  // Its items, or its text in steps of the budget: what looking at all of it once costs.
  bool SpendOnce(Budget& budget) const;
  bool Truth() const;
  // Python's name of its type: "str", "dict".
  const char* TypeName() const;

  Variant v;

 private:
  template <typename T>
  const T* Shared() const { auto* p = As<std::shared_ptr<const T>>(); return p ? p->get() : nullptr; }
};

// A mapping in order of insertion, as Python keeps it. Keys are hashable (Hash below).
class Dict {
 public:
  using Entry = std::pair<Value, Value>;

  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  const Value* Find(const Value& key) const;  // null when absent, or when no such key can be
  const Value* Find(std::string_view key) const;
  // A known key keeps its place and its first spelling.
  void Set(Value key, Value value);
  void Set(std::string key, Value value) { Set(Value::Of(std::move(key)), std::move(value)); }

 private:
  std::optional<size_t> IndexOf(const Value& key, uint64_t hash) const;

  std::vector<Entry> entries_;
  std::unordered_multimap<uint64_t, uint32_t> index_;  // once it is worth it
};

struct ListNest {
  List items;
  int depth = 1;
};
struct TupleNest {
  List items;
  int depth = 1;
  bool group = false;
};
struct DictNest {
  Dict items;
  int depth = 1;
};

// Python's hash: equal values have equal ones. Nothing for lists, mappings and what holds them.
std::optional<uint64_t> Hash(const Value& value);
// Python's ==, exact between integers and floats.
bool Equal(const Value& a, const Value& b, Budget& budget);
// -1, 0, 1, or 2 where one is not a number at all. Requires: numbers.
int CompareNumbers(const Value& a, const Value& b);
// `is`.
bool Same(const Value& a, const Value& b);

}  // namespace ebbinghaus::jinja
