#include "server/jinja/weight.h"

#include <algorithm>
#include <cmath>

namespace ebbinghaus::jinja {

size_t WeightOf(const Value& value) {
  constexpr size_t kItem = 8;
  size_t weight = kItem;
  if (value.text()) weight += value.text()->size();
  if (value.dict()) weight += WeightOf(*value.dict());
  if (const List* items = value.items()) {
    for (const Value& item : *items) weight += WeightOf(item);
  }
  return weight;
}

size_t WeightOf(const Dict& dict) {
  size_t weight = 0;
  for (const auto& [key, value] : dict.entries()) weight += WeightOf(key) + WeightOf(value);
  return weight;
}

bool IsFinite(const Value& value) {
  if (const auto* d = value.As<double>()) return std::isfinite(*d);
  if (value.dict()) return IsFinite(*value.dict());
  const List* items = value.items();
  return items == nullptr || std::all_of(items->begin(), items->end(), [](const Value& item) { return IsFinite(item); });
}

bool IsFinite(const Dict& dict) {
  const auto& entries = dict.entries();
  return std::all_of(entries.begin(), entries.end(), [](const auto& entry) { return IsFinite(entry.second); });
}

}  // namespace ebbinghaus::jinja
