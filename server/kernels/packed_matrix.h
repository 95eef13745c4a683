// Weights in their packed form (weight_form.h): writing them, reading a row back, multiplying.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/kernels/huge_buffer.h"
#include "server/kernels/kernels.h"
#include "server/kernels/thread_team.h"

namespace ebbinghaus::kernels {

// y = W x (+ bias). The memory is somebody else's (a model keeps all its matrices in one buffer).
struct PackedMatrix {
  WeightForm form = WeightForm::kF32;
  int64_t rows = 0, columns = 0;
  const std::byte* blocks = nullptr;  // [block_count()][BlockBytes]
  const float* bias = nullptr;        // [block_count() * 16] or none

  int64_t block_count() const { return (rows + kLanes - 1) / kLanes; }
  int64_t padded_rows() const { return block_count() * kLanes; }
  int64_t bytes() const { return block_count() * BlockBytes(form, columns); }
};

// Quantizes one row of `columns` fp32 into lane `lane` of a block. The step of a group is (largest - smallest) / 15 for
// kInt4Min, the value of largest magnitude / -8 for kInt4, the largest magnitude / 127 for the two int8 forms; an error is
// at most half a step (up to a whole one at kInt4's other end, which has no code 8; plus, for grouped forms, what rounding
// step and minimum to fp16 does to the largest code).
void PackRow(WeightForm form, const float* row, int64_t columns, int64_t lane, std::byte* block);

// Stores a group of 32 columns as codes of the form's own: kInt8Group value + 128, kInt4 value + 8, kInt4Min as is.
// scale, minimum: fp16. Requires: IsGrouped(form).
void PackGroup(WeightForm form, const uint8_t* codes, uint16_t scale, uint16_t minimum, int64_t group, int64_t lane,
               std::byte* block);

// Row `row` as fp32, [columns].
void UnpackRow(const PackedMatrix& matrix, int64_t row, float* out);

// Room for activations of one matrix form, reused from pass to pass.
class RowBuffer {
 public:
  // Makes room where there is not enough; the content is lost.
  const PreparedRows& Resize(const KernelTable& kernels, WeightForm form, int64_t rows, int64_t columns);
  const PreparedRows& rows() const { return rows_; }

 private:
  std::vector<std::byte> data_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
  PreparedRows rows_;
};

// Prepares `rows` rows of x in `buffer`, shared among the threads.
void PrepareRows(const KernelTable& kernels, ThreadTeam& team, WeightForm form, const float* x, int64_t stride, int64_t rows,
                 int64_t columns, RowBuffer& buffer);

// out[r][i] = W x_r (+ bias) for every row of the matrix. Requires: stride >= matrix.padded_rows(); x prepared in
// matrix.form with matrix.columns.
void Multiply(const KernelTable& kernels, ThreadTeam& team, const PackedMatrix& matrix, const PreparedRows& x, int64_t rows,
              float* out, int64_t stride);

}  // namespace ebbinghaus::kernels
