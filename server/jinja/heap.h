// Objects with an identity: what a template can change, call, or use up.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jinja/value.h"

namespace ebbinghaus::jinja {

struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

struct Object {
  virtual ~Object() = default;
  virtual const char* TypeName() const = 0;
  virtual std::string Printed() const { return {}; }  // empty: Python would print an address
};

// Owns the objects of one rendering until its end.
class Heap {
 public:
  template <typename T, typename... Args>
  T* New(Budget& budget, Args&&... args) {
    budget.Spend(kStepsPerObject);
    auto object = std::make_unique<T>(std::forward<Args>(args)...);
    T* pointer = object.get();
    objects_.push_back(std::move(object));
    return pointer;
  }

 private:
  static constexpr uint64_t kStepsPerObject = 4;
  std::vector<std::unique_ptr<Object>> objects_;
};

// What filters, tests, methods and functions work with: one rendering, one thread.
struct Runtime {
  Budget& budget;
  Heap& heap;
  std::time_t now;
};

struct Namespace final : Object {
  const char* TypeName() const override { return "Namespace"; }
  Dict attributes;
};

// A generator or iterator: its items can be taken once.
struct Iterator final : Object {
  // Takes the next item; false at the end.
  using Next = std::function<absl::StatusOr<bool>(Value*)>;
  Iterator(Next next, int depth, bool reversed_list = false)
      : next(std::move(next)), depth(depth), reversed_list(reversed_list) {}
  const char* TypeName() const override { return "generator"; }
  Next next;
  int depth;  // iterators that take from one another
  bool reversed_list;
  bool running = false;
};

struct Joiner final : Object {
  const char* TypeName() const override { return "Joiner"; }
  Value separator;
  bool used = false;
};

struct Cycler final : Object {
  const char* TypeName() const override { return "Cycler"; }
  List items;
  size_t position = 0;
};

struct BoundMethod final : Object {
  BoundMethod(Value self, std::string name) : self(std::move(self)), name(std::move(name)) {}
  const char* TypeName() const override { return "builtin_function_or_method"; }
  Value self;
  std::string name;
};

struct GlobalFunction final : Object {
  explicit GlobalFunction(std::string name) : name(std::move(name)) {}
  const char* TypeName() const override { return "function"; }
  std::string name;
};

// Walks over what a `for` can walk over.
class Cursor {
 public:
  // Errors: InvalidArgument for what cannot be iterated.
  static absl::StatusOr<Cursor> Over(const Value& value, Runtime& runtime);
  // False at the end. Costs a step.
  absl::StatusOr<bool> Next(Value* item);
  // The number of items where Python's len() knows it; -1 for iterators.
  int64_t size() const { return size_; }
  int depth() const;

 private:
  Cursor(Value value, Runtime& runtime) : value_(std::move(value)), runtime_(&runtime) {}
  Value value_;
  Runtime* runtime_;
  std::shared_ptr<CodePoints> points_;
  int64_t at_ = 0, size_ = 0;
};

// All items (or those that are left).
absl::StatusOr<List> Items(const Value& value, Runtime& runtime);
// Python's len(). Errors: InvalidArgument where there is none.
absl::StatusOr<int64_t> Length(const Value& value);
// A new iterator. Errors: ResourceExhausted when too many take from one another.
absl::StatusOr<Value> MakeIterator(Iterator::Next next, int depth, Runtime& runtime);

}  // namespace ebbinghaus::jinja
