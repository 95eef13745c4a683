#include "server/kernels/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "server/kernels/half.h"

namespace ebbinghaus::kernels {
namespace {

// Where a group of 32 columns lies in its block.
struct GroupPlace {
  std::byte* scale;    // fp16 of this lane
  std::byte* minimum;  // kInt4Min only
  std::byte* codes;    // this lane's four bytes of the first of 8 lines
  int shift;           // 4: the high nibbles
};

GroupPlace PlaceOf(WeightForm form, int64_t group, int64_t lane, std::byte* block) {
  const int64_t half = group % 2;
  const int64_t header_lines = form == WeightForm::kInt4Min ? 2 : 1, data_lines = form == WeightForm::kInt8Group ? 16 : 8;
  std::byte* pair = block + group / 2 * (header_lines + data_lines) * kLineBytes;
  std::byte* scale = pair + half * 32 + lane * 2;
  std::byte* codes = pair + header_lines * kLineBytes + lane * 4;
  if (form == WeightForm::kInt8Group) return {scale, nullptr, codes + half * 8 * kLineBytes, 0};
  return {scale, scale + kLineBytes, codes, half == 0 ? 0 : 4};
}

template <typename T>
T Read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void Put(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

float LargestMagnitude(const float* x, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

uint8_t Code(float x, int low, int high, int offset) {
  return static_cast<uint8_t>(std::clamp(static_cast<int>(std::nearbyint(x)), low, high) + offset);
}

void PackFloatGroup(WeightForm form, const float* x, int64_t n, int64_t group, int64_t lane, std::byte* block) {
  uint8_t codes[kGroup];
  if (form == WeightForm::kInt4Min) {
    const auto [low, high] = std::minmax_element(x, x + n);
    const uint16_t minimum = FloatToHalf(*low), scale = FloatToHalf((*high - HalfToFloat(minimum)) / 15);
    const float step = HalfToFloat(scale), inverse = step > 0 ? 1 / step : 0;
    std::fill_n(codes, kGroup, uint8_t{0});
    for (int64_t i = 0; i < n; ++i) codes[i] = Code((x[i] - HalfToFloat(minimum)) * inverse, 0, 15, 0);
    return PackGroup(form, codes, scale, minimum, group, lane, block);
  }
  const bool bytes = form == WeightForm::kInt8Group;
  float step = LargestMagnitude(x, n) / 127;
  if (!bytes) {
    const float extreme = *std::max_element(x, x + n, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    step = extreme / -8;
  }
  const uint16_t scale = FloatToHalf(step);
  const float inverse = HalfToFloat(scale) != 0 ? 1 / HalfToFloat(scale) : 0;
  const int offset = bytes ? 128 : 8;
  std::fill_n(codes, kGroup, static_cast<uint8_t>(offset));
  for (int64_t i = 0; i < n; ++i) codes[i] = bytes ? Code(x[i] * inverse, -127, 127, 128) : Code(x[i] * inverse, -8, 7, 8);
  PackGroup(form, codes, scale, 0, group, lane, block);
}

int64_t RowScaleOffset(int64_t columns, int64_t lane) {
  return PaddedColumns(WeightForm::kInt8Row, columns) / 4 * kLineBytes + lane * static_cast<int64_t>(sizeof(float));
}

}  // namespace

void PackGroup(WeightForm form, const uint8_t* codes, uint16_t scale, uint16_t minimum, int64_t group, int64_t lane,
               std::byte* block) {
  const GroupPlace place = PlaceOf(form, group, lane, block);
  Put(place.scale, scale);
  if (form == WeightForm::kInt4Min) Put(place.minimum, minimum);
  for (int64_t i = 0; i < kGroup; ++i) {
    std::byte& at = place.codes[i / 4 * kLineBytes + i % 4];
    if (form == WeightForm::kInt8Group) {
      at = std::byte{codes[i]};
    } else {
      at = (at & ~(std::byte{15} << place.shift)) | (std::byte{codes[i]} << place.shift);
    }
  }
}

void PackRow(WeightForm form, const float* row, int64_t columns, int64_t lane, std::byte* block) {
  switch (form) {
    case WeightForm::kF32:
      for (int64_t c = 0; c < columns; ++c) Put(block + c * kLineBytes + lane * 4, row[c]);
      return;
    case WeightForm::kBf16:
      for (int64_t c = 0; c < columns; ++c) Put(block + c / 2 * kLineBytes + lane * 4 + c % 2 * 2, FloatToBf16(row[c]));
      return;
    case WeightForm::kInt8Row: {
      const float scale = LargestMagnitude(row, columns) / 127, inverse = scale > 1e-30f ? 1 / scale : 0;
      for (int64_t c = 0; c < PaddedColumns(form, columns); ++c) {
        const float x = c < columns ? row[c] * inverse : 0;
        block[c / 4 * kLineBytes + lane * 4 + c % 4] = std::byte{Code(x, -127, 127, 128)};
      }
      Put(block + RowScaleOffset(columns, lane), scale);
      return;
    }
    default: break;
  }
  for (int64_t c = 0; c < PaddedColumns(form, columns); c += kGroup) {
    const float none = 0;
    const int64_t n = std::clamp<int64_t>(columns - c, 0, kGroup);
    PackFloatGroup(form, n > 0 ? row + c : &none, std::max<int64_t>(n, 1), c / kGroup, lane, block);
  }
}

void UnpackRow(const PackedMatrix& matrix, int64_t row, float* out) {
  const int64_t lane = row % kLanes, columns = matrix.columns;
  auto* block = const_cast<std::byte*>(matrix.blocks) + row / kLanes * BlockBytes(matrix.form, columns);
  for (int64_t c = 0; c < columns; ++c) {
    switch (matrix.form) {
      case WeightForm::kF32: out[c] = Read<float>(block + c * kLineBytes + lane * 4); break;
      case WeightForm::kBf16:
        out[c] = Bf16ToFloat(Read<uint16_t>(block + c / 2 * kLineBytes + lane * 4 + c % 2 * 2));
        break;
      case WeightForm::kInt8Row: {
        const int code = static_cast<int>(block[c / 4 * kLineBytes + lane * 4 + c % 4]);
        out[c] = static_cast<float>(code - 128) * Read<float>(block + RowScaleOffset(columns, lane));
        break;
      }
      default: {
        const GroupPlace place = PlaceOf(matrix.form, c / kGroup, lane, block);
        const int64_t i = c % kGroup;
        const int raw = static_cast<int>(place.codes[i / 4 * kLineBytes + i % 4]);
        const float scale = HalfToFloat(Read<uint16_t>(place.scale));
        if (matrix.form == WeightForm::kInt8Group) {
          out[c] = static_cast<float>(raw - 128) * scale;
        } else if (matrix.form == WeightForm::kInt4) {
          out[c] = static_cast<float>(((raw >> place.shift) & 15) - 8) * scale;
        } else {
          out[c] = static_cast<float>((raw >> place.shift) & 15) * scale + HalfToFloat(Read<uint16_t>(place.minimum));
        }
      }
    }
  }
}

const PreparedRows& RowBuffer::Resize(const KernelTable& kernels, WeightForm form, int64_t rows, int64_t columns) {
  const auto grow = [](auto& buffer, int64_t size) {
    if (buffer.size() < static_cast<size_t>(size)) buffer.resize(size);
  };
  rows_.row_bytes = kernels.prepared_row_bytes(form, columns);
  const int64_t group = IsInteger(form) ? ActivationGroup(form) : columns;
  rows_.groups = (PaddedColumns(form, columns) + group - 1) / group;
  grow(data_, rows * rows_.row_bytes);
  grow(scales_, rows * rows_.groups);
  grow(sums_, rows * rows_.groups);
  rows_.data = data_.data();
  rows_.scales = scales_.data();
  rows_.sums = sums_.data();
  return rows_;
}

void PrepareRows(const KernelTable& kernels, ThreadTeam& team, WeightForm form, const float* x, int64_t stride, int64_t rows,
                 int64_t columns, RowBuffer& buffer) {
  const PreparedRows& all = buffer.Resize(kernels, form, rows, columns);
  // Few rows are done sooner than another thread can be told.
  const int64_t chunk = std::max<int64_t>(1, 8192 / columns);
  team.For(rows, chunk, [&](int64_t begin, int64_t end, int) {
    PreparedRows part = all;
    part.data += begin * all.row_bytes;
    part.scales += begin * all.groups;
    part.sums += begin * all.groups;
    kernels.prepare(form, x + begin * stride, stride, end - begin, columns, part);
  });
}

void Multiply(const KernelTable& kernels, ThreadTeam& team, const PackedMatrix& matrix, const PreparedRows& x, int64_t rows,
              float* out, int64_t stride) {
  const int64_t blocks = matrix.block_count(), bytes = BlockBytes(matrix.form, matrix.columns);
  const int64_t chunk = std::clamp<int64_t>(blocks / (team.threads() * 8), 1, 32);
  team.For(blocks, chunk, [&](int64_t begin, int64_t end, int) {
    const int64_t row = begin * kLanes;
    kernels.multiply(matrix.form, matrix.blocks + begin * bytes, end - begin, matrix.columns, x, rows,
                     matrix.bias == nullptr ? nullptr : matrix.bias + row, out + row, stride);
  });
}

}  // namespace ebbinghaus::kernels
