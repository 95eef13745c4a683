// The values of the template language: what Jinja gets from Python, as far as chat templates use it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "server/text/jinja_budget.h"

namespace ebbinghaus::text::jinja {

// A string that remembers which of its bytes came from a chat message, so that those can be kept from spelling special
// tokens. One mark per byte: slicing, joining and trimming need no further thought.
class Text {
 public:
  Text() = default;
  explicit Text(std::string bytes, bool from_message = false)
      : bytes_(std::move(bytes)), marks_(bytes_.size(), from_message ? 1 : 0) {}

  const std::string& bytes() const { return bytes_; }
  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size(); }
  bool marked(size_t i) const { return marks_[i] != 0; }
  bool any_marked() const { return marks_.find('\1') != marks_.npos; }

  Text Slice(size_t begin, size_t end) const;
  void Append(const Text& other);
  // The same marks cannot be kept byte by byte: everything is marked if anything was.
  Text Rewritten(std::string bytes) const { return Text(std::move(bytes), any_marked()); }

 private:
  std::string bytes_, marks_;
};

class Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order of insertion, as Python keeps it
template <typename Items>
struct Nest;  // a List or Dict that knows how deep it is

struct Undefined {
  std::string name;
};
struct None {};
struct Namespace {  // the one kind of object a template can change
  std::shared_ptr<Dict> attributes;
};
struct Macro;  // a statement of the template, owned by it
struct Callable {
  const Macro* macro = nullptr;  // else the global function `name`
  std::string name;
};

// Cheap to copy: what can be large is shared.
class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>,
                               std::shared_ptr<const Nest<List>>, std::shared_ptr<const Nest<Dict>>, Namespace, Callable>;
  template <typename T>
  static constexpr bool kIsAlternative =
      std::is_same_v<T, Undefined> || std::is_same_v<T, None> || std::is_same_v<T, bool> || std::is_same_v<T, int64_t> ||
      std::is_same_v<T, double> || std::is_same_v<T, Namespace> || std::is_same_v<T, Callable>;
  // Deeper than any list: a namespace can change, so that a value around it could come to hold itself.
  static constexpr int kNamespaceDepth = 1 << 20;

  Value() : v(Undefined{}) {}
  explicit Value(Text text) : v(std::make_shared<const Text>(std::move(text))) {}
  template <typename T>
    requires kIsAlternative<T>
  Value(T value) : v(std::move(value)) {}  // NOLINT: implicit on purpose, a Value is any of these

  static Value Of(std::string text) { return Value(Text(std::move(text))); }
  static Value Of(List list);
  static Value Of(Dict dict);

  template <typename T>
  const T* As() const { return std::get_if<T>(&v); }
  const Text* text() const { auto* p = As<std::shared_ptr<const Text>>(); return p ? p->get() : nullptr; }
  const List* list() const;
  const Dict* dict() const;
  bool undefined() const { return As<Undefined>() != nullptr; }
  bool none() const { return As<None>() != nullptr; }
  bool number() const { return As<bool>() || As<int64_t>() || As<double>(); }
  double real() const;      // of a number
  int64_t integer() const;  // of a bool or integer

  // How many lists and dicts lie inside one another here: 0 for a scalar, 1 for a list of scalars.
  int depth() const;
  // Its items, or its text in steps of the budget: what looking at all of it once costs.
  bool SpendOnce(Budget& budget) const;

  bool Truth() const;
  // Python's str(), with Undefined as "".
  Text ToText(Budget& budget) const;
  Variant v;
};

template <typename Items>
struct Nest {
  Items items;
  int depth = 1;
};

bool Equal(const Value& a, const Value& b, Budget& budget);
const Value* Find(const Dict& dict, std::string_view key);
// As Python's json.dumps(value, ensure_ascii=False, indent=indent); indent < 0: on one line.
Text ToJson(const Value& value, int indent, Budget& budget);
// Where `part` begins in `text`, from `from` on; npos if nowhere. In linear time, unlike std::string's.
size_t FindIn(std::string_view text, std::string_view part, size_t from = 0);

// Code points of UTF-8 bytes: the byte offset where each begins, and the end.
std::vector<size_t> CodePointOffsets(std::string_view bytes);

}  // namespace ebbinghaus::text::jinja
