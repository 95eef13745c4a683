// The header of a safetensors file. Input: the header, and after a zero byte the tensors' bytes; an input that does not begin
// with { is a whole file.
#include <map>

#include "server/base/check.h"
#include "server/model/dequantize.h"
#include "server/model/safetensors.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::model {
namespace {

std::string FileOf(std::string_view input) {
  if (input.empty() || input[0] != '{') return std::string(input);
  const auto [header, data] = fuzz::SplitAtZero(input);
  const uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof size);
  return file.append(header).append(data);
}

void CheckTensors(const std::map<std::string, StoredTensor>& tensors, absl::Span<const std::byte> bytes) {
  size_t sum = 0;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.type) {
      EBB_CHECK(tensor.data.empty());
      continue;
    }
    EBB_CHECK(tensor.data.data() >= bytes.data() && tensor.data.data() + tensor.data.size() <= bytes.data() + bytes.size());
    EBB_CHECK(TensorBytes(*tensor.type, tensor.shape) == tensor.data.size() || tensor.data.empty());
    sum += tensor.data.size();
    const absl::StatusOr<TensorView> view = ViewOf(tensor, name);
    EBB_CHECK(view.ok());
    if (tensor.shape.empty() || tensor.shape.size() > 2 || view->columns() == 0) continue;
    std::vector<float> values(static_cast<size_t>(view->rows() * view->columns()));
    if (view->rows() > 0) DequantizeRows(*view, 0, view->rows(), values.data());
  }
  EBB_CHECK(sum <= bytes.size());  // nothing overlaps
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string file = FileOf(fuzz::AsText(data, size));
  const fuzz::PeakMemory memory;
  const auto tensors = ListSafetensors(fuzz::AsBytes(file));
  const size_t peak = memory.bytes();
  EBB_CHECK(peak <= 32 * file.size() + (16 << 10));
  if (!tensors.ok()) {
    EBB_CHECK(tensors.status().message().size() < 1024);
    return 0;
  }
  CheckTensors(*tensors, fuzz::AsBytes(file));
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::MutateJson(data, size, max_size, seed);
}

}  // namespace ebbinghaus::model
