// From a checkpoint's number formats to fp32, bit for bit as the reference `gguf` package computes them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "server/model/tensor.h"

namespace ebbinghaus::model {

// `values` values, a multiple of the type's block, from `data` to `out`.
void Dequantize(TensorType type, const std::byte* data, int64_t values, float* out);

// Rows [first, first + count) in the order of a Hugging Face checkpoint, [count, columns] fp32.
// Requires: they exist.
void DequantizeRows(const TensorView& tensor, int64_t first, int64_t count, float* out);

}  // namespace ebbinghaus::model
