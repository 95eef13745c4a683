#include "server/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "absl/hash/hash.h"
#include "server/jinja/heap.h"

namespace ebbinghaus::jinja {
namespace {

constexpr size_t kIndexFrom = 8;  // smaller mappings are searched

int DeepestOf(const List& items) {
  int deepest = 0;
  for (const Value& item : items) deepest = std::max(deepest, item.depth());
  return deepest;
}

int CompareIntegerToReal(int64_t i, double d) {
  if (std::isnan(d)) return 2;
  if (d >= 9223372036854775808.0) return -1;
  if (d < -9223372036854775808.0) return 1;
  const auto whole = static_cast<int64_t>(d);
  if (i != whole) return i < whole ? -1 : 1;
  const double rest = d - static_cast<double>(whole);
  return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

// Keys of mappings compare without a budget: whoever looks one up has paid for its size.
Budget& Unlimited() {
  thread_local Budget budget;
  budget = Budget();
  return budget;
}

bool EqualItems(const List& a, const List& b, Budget& budget) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [&](const Value& x, const Value& y) {
           return Equal(x, y, budget);
         });
}

bool EqualDicts(const Dict& a, const Dict& b, Budget& budget) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = key.SpendOnce(budget) ? b.Find(key) : nullptr;
    if (other == nullptr || !Equal(value, *other, budget)) return false;
  }
  return true;
}

}  // namespace

int64_t Range::size() const {
  const __int128 span = static_cast<__int128>(stop) - start;
  if ((span > 0) != (step > 0) || span == 0) return 0;
  const __int128 width = step;
  return static_cast<int64_t>((span + (width > 0 ? width - 1 : width + 1)) / width);
}

Value Value::Of(List list) {
  Value value;
  const int depth = DeepestOf(list) + 1;
  value.v = std::make_shared<const ListNest>(ListNest{std::move(list), depth});
  return value;
}

Value Value::Tuple(List items) {
  Value value;
  const int depth = DeepestOf(items) + 1;
  value.v = std::make_shared<const TupleNest>(TupleNest{std::move(items), depth});
  return value;
}

Value Value::Group(Value grouper, Value list) {
  List items = {std::move(grouper), std::move(list)};
  Value value;
  const int depth = DeepestOf(items) + 1;
  value.v = std::make_shared<const TupleNest>(TupleNest{std::move(items), depth, true});
  return value;
}

Value Value::Of(Dict dict) {
  int deepest = 0;
  for (const auto& [key, item] : dict.entries()) deepest = std::max({deepest, key.depth(), item.depth()});
  Value value;
  value.v = std::make_shared<const DictNest>(DictNest{std::move(dict), deepest + 1});
  return value;
}

Value Value::Not(std::string what) {
  return Value(Undefined{std::make_shared<const std::string>(std::move(what))});
}

const List* Value::list() const { auto* p = Shared<ListNest>(); return p ? &p->items : nullptr; }
const List* Value::tuple() const { auto* p = Shared<TupleNest>(); return p ? &p->items : nullptr; }
const Dict* Value::dict() const { auto* p = Shared<DictNest>(); return p ? &p->items : nullptr; }
std::shared_ptr<const DictNest> Value::dict_nest() const {
  auto* p = As<std::shared_ptr<const DictNest>>();
  return p ? *p : nullptr;
}

int Value::depth() const {
  if (auto* p = Shared<ListNest>()) return p->depth;
  if (auto* p = Shared<TupleNest>()) return p->depth;
  if (auto* p = Shared<DictNest>()) return p->depth;
  return view() ? view()->dict->depth : 0;
}

bool Value::SpendOnce(Budget& budget) const {
  if (text()) return budget.SpendBytes(text()->size());
  return budget.Spend(items() ? items()->size() : dict() ? dict()->size() : 0);
}

double Value::real() const {
  if (const auto* d = As<double>()) return *d;
  return static_cast<double>(integer());
}

int64_t Value::integer() const {
  if (const auto* b = As<bool>()) return *b;
  const auto* i = As<int64_t>();
  return i ? *i : 0;
}

bool Value::Truth() const {
  if (missing() || undefined() || none()) return false;
  if (const auto* d = As<double>()) return *d != 0;
  if (integral()) return integer() != 0;
  if (text()) return !text()->empty();
  if (items()) return !items()->empty();
  if (dict()) return dict()->size() != 0;
  if (view()) return view()->dict->items.size() != 0;
  if (range()) return range()->size() != 0;
  return true;
}

const char* Value::TypeName() const {
  if (undefined() || missing()) return "Undefined";
  if (none()) return "NoneType";
  if (As<bool>()) return "bool";
  if (As<int64_t>()) return "int";
  if (As<double>()) return "float";
  if (text()) return text()->markup() ? "Markup" : "str";
  if (list()) return "list";
  if (tuple()) return "tuple";
  if (dict()) return "dict";
  if (range()) return "range";
  if (view()) {
    return view()->kind == ViewKind::kKeys ? "dict_keys" : view()->kind == ViewKind::kValues ? "dict_values" : "dict_items";
  }
  return object()->TypeName();
}

const Value* Dict::Find(const Value& key) const {
  const std::optional<uint64_t> hash = Hash(key);
  if (!hash) return nullptr;
  const std::optional<size_t> at = IndexOf(key, *hash);
  return at ? &entries_[*at].second : nullptr;
}

const Value* Dict::Find(std::string_view key) const {
  if (index_.empty()) {
    for (const auto& [name, value] : entries_) {
      if (name.text() && name.text()->bytes() == key) return &value;
    }
    return nullptr;
  }
  return Find(Value::Of(std::string(key)));
}

std::optional<size_t> Dict::IndexOf(const Value& key, uint64_t hash) const {
  if (index_.empty()) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (Equal(entries_[i].first, key, Unlimited())) return i;
    }
    return std::nullopt;
  }
  const auto [begin, end] = index_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (Equal(entries_[it->second].first, key, Unlimited())) return it->second;
  }
  return std::nullopt;
}

void Dict::Set(Value key, Value value) {
  const uint64_t hash = Hash(key).value_or(0);
  if (const std::optional<size_t> at = IndexOf(key, hash)) {
    entries_[*at].second = std::move(value);
    return;
  }
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() == kIndexFrom) {
    for (size_t i = 0; i < entries_.size(); ++i) index_.emplace(Hash(entries_[i].first).value_or(0), i);
  } else if (entries_.size() > kIndexFrom) {
    index_.emplace(hash, entries_.size() - 1);
  }
}

std::optional<uint64_t> Hash(const Value& value) {
  if (const Text* text = value.text()) return absl::HashOf(text->bytes());
  if (value.integral()) return absl::HashOf(value.integer());
  if (const auto* d = value.As<double>()) {
    if (std::abs(*d) < 9e18 && std::trunc(*d) == *d) return absl::HashOf(static_cast<int64_t>(*d));
    return absl::HashOf(*d);
  }
  if (value.none()) return 1;
  if (value.undefined()) return 2;
  if (const Range* r = value.range()) return absl::HashOf(r->size());
  if (const List* items = value.tuple()) {
    uint64_t all = 3;
    for (const Value& item : *items) {
      const std::optional<uint64_t> hash = Hash(item);
      if (!hash) return std::nullopt;
      all = absl::HashOf(all, *hash);
    }
    return all;
  }
  if (value.object()) return absl::HashOf(value.object());
  return std::nullopt;
}

int CompareNumbers(const Value& a, const Value& b) {
  if (a.integral() && b.integral()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  if (a.integral()) return CompareIntegerToReal(a.integer(), b.real());
  if (b.integral()) {
    const int reverse = CompareIntegerToReal(b.integer(), a.real());
    return reverse == 2 ? 2 : -reverse;
  }
  if (std::isnan(a.real()) || std::isnan(b.real())) return 2;
  return a.real() < b.real() ? -1 : a.real() > b.real();
}

bool Same(const Value& a, const Value& b) {
  if (a.v.index() != b.v.index()) return false;
  if (a.object()) return a.object() == b.object();
  if (a.list()) return a.list() == b.list();
  if (a.tuple()) return a.tuple() == b.tuple() || (a.tuple()->empty() && b.tuple()->empty());
  if (a.dict()) return a.dict() == b.dict();
  if (a.text()) return a.text() == b.text();
  if (a.none()) return true;
  if (a.As<bool>()) return a.integer() == b.integer();
  if (a.integral()) return a.integer() == b.integer();
  return false;
}

bool Equal(const Value& a, const Value& b, Budget& budget) {
  if (!budget.Spend()) return false;
  if (a.number() && b.number()) return CompareNumbers(a, b) == 0;
  if (a.text() && b.text()) {
    if (a.text()->size() != b.text()->size() || !budget.SpendBytes(a.text()->size())) return false;
    return a.text()->bytes() == b.text()->bytes();
  }
  if (a.list() && b.list()) return EqualItems(*a.list(), *b.list(), budget);
  if (a.tuple() && b.tuple()) return EqualItems(*a.tuple(), *b.tuple(), budget);
  if (a.dict() && b.dict()) return EqualDicts(*a.dict(), *b.dict(), budget);
  if (a.range() && b.range()) {
    const Range &x = *a.range(), &y = *b.range();
    const int64_t size = x.size();
    return size == y.size() && (size == 0 || (x.start == y.start && (size == 1 || x.step == y.step)));
  }
  if (a.view() && b.view() && a.view()->kind != ViewKind::kValues && a.view()->kind == b.view()->kind) {
    const Dict &x = a.view()->dict->items, &y = b.view()->dict->items;
    if (a.view()->kind == ViewKind::kItems) return EqualDicts(x, y, budget);
    return x.size() == y.size() && budget.Spend(x.size()) &&
           std::all_of(x.entries().begin(), x.entries().end(), [&](const auto& e) { return y.Find(e.first) != nullptr; });
  }
  if (a.object() && b.object()) return a.object() == b.object();
  return (a.none() && b.none()) || (a.undefined() && b.undefined());
}

}  // namespace ebbinghaus::jinja
