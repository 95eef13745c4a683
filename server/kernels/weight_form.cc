#include "server/kernels/weight_form.h"

namespace ebbinghaus::kernels {
namespace {

int64_t RoundUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace

std::string_view Name(WeightForm form) {
  switch (form) {
    case WeightForm::kF32: return "f32";
    case WeightForm::kBf16: return "bf16";
    case WeightForm::kInt8Row: return "int8";
    case WeightForm::kInt8Group: return "int8-group32";
    case WeightForm::kInt4: return "int4-group32";
    case WeightForm::kInt4Min: return "int4-min-group32";
  }
  return "unknown";
}

int64_t PaddedColumns(WeightForm form, int64_t columns) {
  switch (form) {
    case WeightForm::kF32: return columns;
    case WeightForm::kBf16: return RoundUp(columns, 2);
    case WeightForm::kInt8Row: return RoundUp(columns, 4);
    default: return RoundUp(columns, 2 * kGroup);
  }
}

int64_t BlockBytes(WeightForm form, int64_t columns) {
  const int64_t padded = PaddedColumns(form, columns);
  switch (form) {
    case WeightForm::kF32: return padded * kLineBytes;
    case WeightForm::kBf16: return padded / 2 * kLineBytes;
    case WeightForm::kInt8Row: return (padded / 4 + 1) * kLineBytes;
    case WeightForm::kInt8Group: return padded / 64 * 17 * kLineBytes;
    case WeightForm::kInt4: return padded / 64 * 9 * kLineBytes;
    case WeightForm::kInt4Min: return padded / 64 * 10 * kLineBytes;
  }
  return 0;
}

}  // namespace ebbinghaus::kernels
