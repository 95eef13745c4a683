#include "server/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/base/status_macros.h"
#include "server/model/json_guard.h"

namespace ebbinghaus::model {
namespace {

using Json = nlohmann::json;

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(absl::StrCat("safetensors: ", what)); }

// Names come from the file, so only a part of them is repeated.
std::string Quoted(const std::string& name) { return absl::StrCat("tensor \"", name.substr(0, 128), "\""); }

absl::StatusOr<TensorType> ParseType(const std::string& name, const Json& entry) {
  const auto type = entry.find("dtype");
  if (type == entry.end() || !type->is_string()) return Bad(absl::StrCat(Quoted(name), " has no dtype"));
  const std::string text = type->get<std::string>();
  if (text == "F32") return TensorType::kF32;
  if (text == "F16") return TensorType::kF16;
  if (text == "BF16") return TensorType::kBf16;
  return Bad(absl::StrCat(Quoted(name), " has the type ", text.substr(0, 32), "; supported are F32, F16 and BF16"));
}

absl::StatusOr<std::vector<uint64_t>> ParseNumbers(const std::string& name, const Json& entry, const char* key, size_t most) {
  const auto list = entry.find(key);
  if (list == entry.end() || !list->is_array() || list->size() > most) {
    return Bad(absl::StrCat(Quoted(name), ": ", key, " must be a list of at most ", most, " numbers"));
  }
  std::vector<uint64_t> numbers;
  for (const Json& number : *list) {
    if (!number.is_number_unsigned()) return Bad(absl::StrCat(Quoted(name), ": ", key, " must hold whole numbers"));
    numbers.push_back(number.get<uint64_t>());
  }
  return numbers;
}

absl::StatusOr<TensorView> ParseTensor(const std::string& name, const Json& entry, absl::Span<const std::byte> data) {
  TensorView view;
  if (!entry.is_object()) return Bad(absl::StrCat(Quoted(name), " is not an object"));
  EBB_ASSIGN_OR_RETURN(view.type, ParseType(name, entry));
  EBB_ASSIGN_OR_RETURN(const std::vector<uint64_t> shape, ParseNumbers(name, entry, "shape", 4));
  EBB_ASSIGN_OR_RETURN(const std::vector<uint64_t> offsets, ParseNumbers(name, entry, "data_offsets", 2));
  for (uint64_t extent : shape) {
    if (extent == 0 || extent > (1ull << 40)) return Bad(absl::StrCat(Quoted(name), ": a dimension is out of range"));
    view.shape.push_back(static_cast<int64_t>(extent));
  }
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data.size()) {
    return Bad(absl::StrCat(Quoted(name), ": data_offsets lie outside the file"));
  }
  if (TensorBytes(view.type, view.shape) != offsets[1] - offsets[0]) {
    return Bad(absl::StrCat(Quoted(name), ": data_offsets do not match its shape and type"));
  }
  view.data = data.subspan(offsets[0], offsets[1] - offsets[0]);
  return view;
}

}  // namespace

absl::StatusOr<std::map<std::string, TensorView>> ReadSafetensors(absl::Span<const std::byte> bytes) {
  constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
  uint64_t header_size = 0;
  if (bytes.size() < sizeof header_size) return Bad("the file ends before its header");
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  if (header_size > kMaxHeader || header_size > bytes.size() - sizeof header_size) return Bad("the header is longer than the file");
  const std::string text(reinterpret_cast<const char*>(bytes.data()) + sizeof header_size, header_size);
  EBB_ASSIGN_OR_RETURN(const Json header, ParseJson(text, "safetensors header"));
  if (!header.is_object()) return Bad("the header is not a JSON object");

  const absl::Span<const std::byte> data = bytes.subspan(sizeof header_size + header_size);
  std::map<std::string, TensorView> tensors;
  std::vector<std::pair<const std::byte*, const std::byte*>> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    EBB_ASSIGN_OR_RETURN(TensorView view, ParseTensor(name, entry, data));
    ranges.push_back({view.data.data(), view.data.data() + view.data.size()});
    tensors.emplace(name, std::move(view));
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) return Bad("tensors overlap");
  }
  return tensors;
}

}  // namespace ebbinghaus::model
