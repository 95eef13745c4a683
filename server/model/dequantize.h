// From a checkpoint's number formats to fp32, bit for bit as the reference package `gguf` computes them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "server/model/tensor.h"

namespace ebbinghaus::model {

// `values` values from `data` to `out`. Requires: `values` is a multiple of the type's block. `data` may have any alignment.
// Source: the block layouts of the GGML project; IEEE 754 binary16.
void Dequantize(TensorType type, const std::byte* data, int64_t values, float* out);

// Rows [first, first + count) in the order of a Hugging Face checkpoint, [count, columns] fp32. A vector is one row; a
// permuted one (a bias of q or k) comes back in order, too.
// Requires: the rows exist; at most two dimensions.
void DequantizeRows(const TensorView& tensor, int64_t first, int64_t count, float* out);

// Where row `row` of the Hugging Face order stands in the file (for a vector: the entry). Within a head, GGUF's converter
// for Llama moves entry i of rotary half h to place 2 * i + h.
int64_t StoredRow(const TensorView& tensor, int64_t row);

}  // namespace ebbinghaus::model
