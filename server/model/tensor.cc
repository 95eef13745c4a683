#include "server/model/tensor.h"

#include <iterator>
#include <limits>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::model {
namespace {

constexpr TensorLayout kLayouts[] = {{"F32", 1, 4},      {"F16", 1, 2},      {"BF16", 1, 2},    {"Q8_0", 32, 34},
                                     {"Q4_0", 32, 18},   {"Q4_1", 32, 20},   {"Q5_0", 32, 22},  {"Q5_1", 32, 24},
                                     {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}};
static_assert(std::size(kLayouts) == static_cast<size_t>(TensorType::kQ6K) + 1);

}  // namespace

const TensorLayout& LayoutOf(TensorType type) { return kLayouts[static_cast<int>(type)]; }

std::string SupportedTensorTypes() {
  std::string all;
  for (const TensorLayout& layout : kLayouts) {
    if (!all.empty()) all += ", ";
    all += layout.name;
  }
  return all;
}

absl::StatusOr<TensorView> ViewOf(const StoredTensor& stored, const std::string& name) {
  if (!stored.type) {
    return absl::InvalidArgumentError(absl::StrCat("the tensor ", name, " has the type ", stored.type_name,
                                                   ", which is not supported; supported are ", SupportedTensorTypes()));
  }
  return TensorView{.type = *stored.type, .shape = stored.shape, .data = stored.data};
}

std::optional<uint64_t> TensorBytes(TensorType type, absl::Span<const int64_t> shape) {
  constexpr uint64_t kMaxBlockBytes = 512;
  const TensorLayout& layout = LayoutOf(type);
  if (shape.empty() || shape.back() % layout.block_values != 0) return std::nullopt;
  uint64_t values = 1;
  for (int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent > 0 && values > std::numeric_limits<uint64_t>::max() / kMaxBlockBytes / static_cast<uint64_t>(extent)) return std::nullopt;
    values *= static_cast<uint64_t>(extent);
  }
  return values / layout.block_values * layout.block_bytes;
}

}  // namespace ebbinghaus::model
