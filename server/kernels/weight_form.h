// How packed weights are laid out: for streaming, one line of 64 bytes after the other.
//
// Sixteen output rows make a block, and a vector's lane is a row, so a dot product needs no sum across lanes. Within a
// line, a lane's four bytes belong to consecutive columns:
//
//   kF32        per column: 16 fp32
//   kBf16       per 2 columns: 16 x 2 bf16
//   kInt8Row    per 4 columns: 16 x 4 bytes, value = (byte - 128) * scale; at the block's end 16 fp32 scales
//   kInt8Group  per 64 columns: 2 x 16 fp16 scales (columns 0-31, 32-63), then 16 lines as in kInt8Row
//   kInt4       per 64 columns: 2 x 16 fp16 scales, then 8 lines of which the low nibbles are columns 0-31 and the high
//               ones columns 32-63; value = (nibble - 8) * scale
//   kInt4Min    as kInt4 with 2 x 16 fp16 minima after the scales; value = nibble * scale + minimum
//
// Rows and columns beyond the matrix are zero.
#pragma once

#include <cstdint>
#include <string_view>

namespace ebbinghaus::kernels {

enum class WeightForm { kF32, kBf16, kInt8Row, kInt8Group, kInt4, kInt4Min };
std::string_view Name(WeightForm form);

inline constexpr int64_t kLanes = 16;      // rows of a block
inline constexpr int64_t kGroup = 32;      // columns that share a scale
inline constexpr int64_t kLineBytes = 64;
// Columns of activations that share a scale beside kInt8Row: few enough that an outlier does not coarsen a whole row, which
// on SmolLM2-135M costs six times the perplexity.
inline constexpr int64_t kRowFormGroup = 64;
inline constexpr WeightForm kAllForms[] = {WeightForm::kF32,       WeightForm::kBf16, WeightForm::kInt8Row,
                                           WeightForm::kInt8Group, WeightForm::kInt4, WeightForm::kInt4Min};

inline constexpr bool IsInteger(WeightForm form) { return form != WeightForm::kF32 && form != WeightForm::kBf16; }
// Columns of activations that share a scale. Requires: IsInteger(form).
inline constexpr int64_t ActivationGroup(WeightForm form) { return form == WeightForm::kInt8Row ? kRowFormGroup : kGroup; }
inline constexpr bool IsGrouped(WeightForm form) { return IsInteger(form) && form != WeightForm::kInt8Row; }

// `columns`, rounded up to what the form can hold.
int64_t PaddedColumns(WeightForm form, int64_t columns);
int64_t BlockBytes(WeightForm form, int64_t columns);

}  // namespace ebbinghaus::kernels
