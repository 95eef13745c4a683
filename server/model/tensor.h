// A tensor as a checkpoint file holds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace ebbinghaus::model {

enum class TensorType { kF32, kF16, kBf16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4K, kQ5K, kQ6K };

// Values come in blocks: `block_values` of them in `block_bytes` bytes. Source: the GGML block layouts.
struct TensorLayout {
  std::string_view name;  // as GGUF writes it, such as "Q8_0"
  uint32_t block_values = 1;
  uint32_t block_bytes = 1;
};
const TensorLayout& LayoutOf(TensorType type);

// Points into a mapped file, which must outlive it.
struct TensorView {
  TensorType type = TensorType::kF32;
  std::vector<int64_t> shape;  // row-major, [out, in] for a matrix; the last dimension is a multiple of the block
  absl::Span<const std::byte> data;
  // GGUF stores the rows of Llama's q and k so that each head's two rotary halves interleave; these many heads have to be
  // put back in order. 0 = rows are in order.
  uint32_t permuted_heads = 0;

  int64_t rows() const { return shape.size() < 2 ? 1 : shape[0]; }
  int64_t columns() const { return shape.back(); }
};

// Bytes of so many values; nullopt on overflow or where blocks do not divide the last dimension.
std::optional<uint64_t> TensorBytes(TensorType type, absl::Span<const int64_t> shape);

}  // namespace ebbinghaus::model
