// A tensor as a checkpoint file holds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ebbinghaus::model {

enum class TensorType { kF32, kF16, kBf16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4K, kQ5K, kQ6K };

// Values come in blocks along the last dimension: `block_values` of them in `block_bytes` bytes.
// Source: the block layouts of the GGML project (ggml-common.h) and its reference package `gguf`.
struct TensorLayout {
  std::string_view name;  // as GGUF writes it, such as "Q8_0"
  uint32_t block_values = 1;
  uint32_t block_bytes = 1;
};
const TensorLayout& LayoutOf(TensorType type);
inline bool IsQuantized(TensorType type) { return LayoutOf(type).block_values > 1; }

// "F32, F16, BF16, Q8_0, ...", for messages.
std::string SupportedTensorTypes();

// Points into a mapped file, which must outlive it. The bytes are as the file has them (little endian, no particular
// alignment), so that an engine of its own layout can repack blocks without going through fp32.
struct TensorView {
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;  // row-major, [out, in] for a matrix; the last dimension is a multiple of the block
  absl::Span<const std::byte> data;
  // GGUF stores the rows of Llama's q and k so that each head's two rotary halves interleave; these many heads have to be
  // put back in order (StoredRow in dequantize.h). 0 = rows are in order.
  uint32_t permuted_heads = 0;

  int64_t rows() const { return shape.size() < 2 ? 1 : shape[0]; }
  int64_t columns() const { return shape.back(); }
  // Requires: at most two dimensions.
  int64_t row_bytes() const { return columns() / LayoutOf(type).block_values * LayoutOf(type).block_bytes; }
};

// An entry of a file's directory, whether or not its type can be read.
struct StoredTensor {
  std::optional<TensorType> type;  // nullopt: not supported; `data` is then empty
  std::string type_name;           // as the format calls it
  std::vector<int64_t> shape;      // row-major
  absl::Span<const std::byte> data;
};

// The stored tensor as one that can be read. Errors: InvalidArgument with `name`, its type and the supported ones.
absl::StatusOr<TensorView> ViewOf(const StoredTensor& stored, const std::string& name);

// Bytes of so many values; nullopt on overflow, without dimensions, with a negative one, or where blocks do not divide the
// last. A dimension of 0 makes 0 bytes.
std::optional<uint64_t> TensorBytes(TensorType type, absl::Span<const int64_t> shape);

}  // namespace ebbinghaus::model
