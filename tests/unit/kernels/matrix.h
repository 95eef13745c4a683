// Packed matrices and prepared activations that own their memory, of exactly the documented size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/kernels/half.h"
#include "server/kernels/packed_matrix.h"
#include "tests/unit/kernels/tables.h"

namespace ebbinghaus::kernels {

class Matrix {
 public:
  // All zero.
  Matrix(WeightForm form, int64_t rows, int64_t columns) {
    packed_ = {.form = form, .rows = rows, .columns = columns};
    memory_.resize(packed_.bytes());
    packed_.blocks = memory_.data();
  }
  Matrix(WeightForm form, int64_t rows, int64_t columns, const std::vector<float>& weights)
      : Matrix(form, rows, columns) {
    for (int64_t r = 0; r < rows; ++r) {
      PackRow(form, &weights[r * columns], columns, r % kLanes, Block(r / kLanes));
    }
  }
  Matrix(const Matrix&) = delete;

  const PackedMatrix& packed() const { return packed_; }
  std::byte* Block(int64_t b) {
    return memory_.data() + b * BlockBytes(packed_.form, packed_.columns);
  }
  std::vector<float> Row(int64_t row) const {
    std::vector<float> out(packed_.columns);
    UnpackRow(packed_, row, out.data());
    return out;
  }

 private:
  PackedMatrix packed_;
  std::vector<std::byte> memory_;
};

// `rows` x `columns` activations as one table prepares them, and read back.
class Activations {
 public:
  Activations(const KernelTable& table, WeightForm form, int64_t rows, int64_t columns,
              const std::vector<float>& x)
      : form_(form), narrow_(RoundsActivationsToBf16(table)) {
    table.prepare(form, x.data(), columns, rows, columns,
                  buffer_.Resize(table, form, rows, columns));
  }

  PreparedRows From(int64_t row) const {
    PreparedRows x = buffer_.rows();
    x.data += row * x.row_bytes;
    x.scales += row * x.groups;
    x.sums += row * x.groups;
    return x;
  }
  int Code(int64_t row, int64_t column) const {
    return reinterpret_cast<const int8_t*>(From(row).data)[column];
  }
  float Scale(int64_t row, int64_t column) const {
    return From(row).scales[column / ActivationGroup(form_)];
  }
  // What the kernels multiply a weight of this column by.
  double Value(int64_t row, int64_t column) const {
    const std::byte* data = From(row).data;
    if (IsInteger(form_)) return double{Scale(row, column)} * Code(row, column);
    if (form_ == WeightForm::kBf16 && narrow_) {
      return Bf16ToFloat(reinterpret_cast<const uint16_t*>(data)[column]);
    }
    return reinterpret_cast<const float*>(data)[column];
  }

 private:
  WeightForm form_;
  bool narrow_;
  RowBuffer buffer_;
};

}  // namespace ebbinghaus::kernels
