#include <cstring>
#include <random>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/fuzz/support.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace ebbinghaus::fuzz {
namespace {

using Json = nlohmann::json;

// A mutator deeper than this would recurse too far itself.
constexpr int kMaxDepth = 64;

void Collect(Json& node, int depth, std::vector<Json*>& nodes) {
  nodes.push_back(&node);
  if (depth == kMaxDepth || !node.is_structured()) return;
  for (Json& child : node) Collect(child, depth + 1, nodes);
}

class TreeMutator {
 public:
  TreeMutator(Json& tree, unsigned seed) : random_(seed) { Collect(tree, 0, nodes_); }

  // Requires: used once, since nodes move.
  void Run() {
    Json& node = *Any(nodes_);
    switch (Below(8)) {
      case 0:
        node = Odd();
        break;
      case 1: {
        Json copy = *Any(nodes_);  // of the tree as it is, so no node can hold itself
        node = std::move(copy);
        break;
      }
      case 2:
        Remove(node);
        break;
      case 3:
        Insert(node);
        break;
      case 4:
        Rename(node);
        break;
      default:
        ChangeScalar(*AnyScalar());
    }
  }

 private:
  size_t Below(size_t limit) { return std::uniform_int_distribution<size_t>(0, limit - 1)(random_); }

  template <typename T>
  const T& Any(const std::vector<T>& values) {
    return values[Below(values.size())];
  }

  Json* AnyScalar() {
    Json* node = Any(nodes_);
    for (int tries = 0; tries < 8 && node->is_structured(); ++tries) node = Any(nodes_);
    return node;
  }

  Json Odd() {
    static const std::vector<Json> odd = {nullptr, true, false, 0, 1, -1, 2, 255, 65536, 2147483647, 2147483648, 4294967295,
                                          4294967296, INT64_MAX, INT64_MIN, UINT64_MAX, 0.5, -0.0, 1e-46, 1e39, 1e308, "", "a",
                                          Json::array(), Json::object()};
    return Any(odd);
  }

  std::string AnyKey() {
    for (int tries = 0; tries < 16; ++tries) {
      const Json& node = *Any(nodes_);
      if (node.is_object() && !node.empty()) return std::next(node.begin(), static_cast<int64_t>(Below(node.size()))).key();
      if (node.is_string()) return node.get<std::string>();
    }
    return "key";
  }

  void Remove(Json& node) {
    if (!node.is_structured() || node.empty()) return;
    node.erase(std::next(node.begin(), static_cast<int64_t>(Below(node.size()))));
  }

  void Insert(Json& node) {
    Json value = Below(2) == 0 ? Odd() : *Any(nodes_);
    if (node.is_array()) {
      node.insert(std::next(node.begin(), static_cast<int64_t>(Below(node.size() + 1))), std::move(value));
    } else if (node.is_object()) {
      node[AnyKey()] = std::move(value);
    } else {
      node = Json::array({std::move(value)});
    }
  }

  void Rename(Json& node) {
    if (!node.is_object() || node.empty()) return;
    const auto entry = std::next(node.begin(), static_cast<int64_t>(Below(node.size())));
    const std::string key = AnyKey();  // before what the list of nodes points to is gone
    Json value = std::move(*entry);
    node.erase(entry);
    node[key] = std::move(value);
  }

  void ChangeScalar(Json& node) {
    if (node.is_string()) {
      std::string text = node.get<std::string>();
      const size_t size = text.size();
      text.resize(size + 32);
      text.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(text.data()), size, text.size()));
      node = std::move(text);
    } else if (node.is_number_integer()) {
      const auto value = node.get<uint64_t>();
      const uint64_t changed[] = {value + 1, value - 1, value * 2, value / 2, ~value, value + 256};
      const uint64_t chosen = changed[Below(std::size(changed))];
      node = Below(2) == 0 ? Json(chosen) : Json(static_cast<int64_t>(chosen));
    } else if (node.is_number_float()) {
      node = node.get<double>() * (Below(2) == 0 ? 1e10 : -1e-10);
    } else {
      node = Odd();
    }
  }

  std::mt19937 random_;
  std::vector<Json*> nodes_;
};

}  // namespace

size_t MutateJson(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  const auto [text, rest] = SplitAtZero(AsText(data, size));
  if (seed % 2 == 0) {
    Json tree = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!tree.is_discarded()) {
      TreeMutator(tree, seed).Run();
      std::string changed = tree.dump(-1, ' ', false, Json::error_handler_t::replace);
      if (rest.data() != nullptr) changed.append(1, '\0').append(rest);
      if (changed.size() <= max_size) {
        std::memcpy(data, changed.data(), changed.size());
        return changed.size();
      }
    }
  }
  return LLVMFuzzerMutate(data, size, max_size);
}

}  // namespace ebbinghaus::fuzz
