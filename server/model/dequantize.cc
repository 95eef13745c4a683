// Built with -ffp-contract=off: a fused a * b + c would differ from the reference in the last bit.
#include "server/model/dequantize.h"

#include <bit>
#include <cstring>
#include <vector>

namespace ebbinghaus::model {
namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are little endian and read as they are");

float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float FromHalf(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31, mantissa = half & 0x3ffu;
  if (exponent == 31) return FromBits(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return FromBits(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float subnormal = static_cast<float>(mantissa) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

template <typename T>
T Read(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float ReadHalf(const std::byte* at) { return FromHalf(Read<uint16_t>(at)); }
uint8_t Byte(const std::byte* at) { return std::to_integer<uint8_t>(*at); }

void Q8_0(const std::byte* block, float* out) {
  const float d = ReadHalf(block);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(Read<int8_t>(block + 2 + i));
}

void Q4_0(const std::byte* block, float* out) {
  const float d = ReadHalf(block);
  for (int i = 0; i < 16; ++i) {
    const int q = Byte(block + 2 + i);
    out[i] = d * static_cast<float>((q & 15) - 8);
    out[i + 16] = d * static_cast<float>((q >> 4) - 8);
  }
}

void Q4_1(const std::byte* block, float* out) {
  const float d = ReadHalf(block), m = ReadHalf(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int q = Byte(block + 4 + i);
    out[i] = d * static_cast<float>(q & 15) + m;
    out[i + 16] = d * static_cast<float>(q >> 4) + m;
  }
}

// The fifth bits of 32 values stand together in one word.
int WithFifthBit(int nibble, uint32_t fifth_bits, int i) { return nibble | (((fifth_bits >> i) & 1) << 4); }

void Q5_0(const std::byte* block, float* out) {
  const float d = ReadHalf(block);
  const uint32_t fifth = Read<uint32_t>(block + 2);
  for (int i = 0; i < 16; ++i) {
    const int q = Byte(block + 6 + i);
    out[i] = d * static_cast<float>(WithFifthBit(q & 15, fifth, i) - 16);
    out[i + 16] = d * static_cast<float>(WithFifthBit(q >> 4, fifth, i + 16) - 16);
  }
}

void Q5_1(const std::byte* block, float* out) {
  const float d = ReadHalf(block), m = ReadHalf(block + 2);
  const uint32_t fifth = Read<uint32_t>(block + 4);
  for (int i = 0; i < 16; ++i) {
    const int q = Byte(block + 8 + i);
    out[i] = d * static_cast<float>(WithFifthBit(q & 15, fifth, i)) + m;
    out[i + 16] = d * static_cast<float>(WithFifthBit(q >> 4, fifth, i + 16)) + m;
  }
}

// K-quants pack eight 6-bit (scale, minimum) pairs into 12 bytes.
struct ScaleAndMinimum {
  int scale, minimum;
};
ScaleAndMinimum KScale(const std::byte* packed, int group) {
  if (group < 4) return {Byte(packed + group) & 63, Byte(packed + group + 4) & 63};
  const int low = Byte(packed + group + 4);
  return {(low & 15) | ((Byte(packed + group - 4) >> 6) << 4), (low >> 4) | ((Byte(packed + group) >> 6) << 4)};
}

void Q4K(const std::byte* block, float* out) {
  const float d = ReadHalf(block), dmin = ReadHalf(block + 2);
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum s = KScale(block + 4, group);
    const float scale = d * static_cast<float>(s.scale), minimum = dmin * static_cast<float>(s.minimum);
    for (int i = 0; i < 32; ++i) {
      const int q = Byte(block + 16 + group / 2 * 32 + i);
      out[group * 32 + i] = scale * static_cast<float>(group % 2 ? q >> 4 : q & 15) - minimum;
    }
  }
}

void Q5K(const std::byte* block, float* out) {
  const float d = ReadHalf(block), dmin = ReadHalf(block + 2);
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum s = KScale(block + 4, group);
    const float scale = d * static_cast<float>(s.scale), minimum = dmin * static_cast<float>(s.minimum);
    for (int i = 0; i < 32; ++i) {
      const int low = Byte(block + 48 + group / 2 * 32 + i);
      const int high = (Byte(block + 16 + i) >> group) & 1;
      out[group * 32 + i] = scale * static_cast<float>((group % 2 ? low >> 4 : low & 15) | (high << 4)) - minimum;
    }
  }
}

void Q6K(const std::byte* block, float* out) {
  const std::byte *low = block, *high = block + 128, *scales = block + 192;
  const float d = ReadHalf(block + 208);
  for (int half = 0; half < 2; ++half) {
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int i = 0; i < 32; ++i) {
        const int nibbles = Byte(low + half * 64 + (quarter % 2) * 32 + i);
        const int bits = (Byte(high + half * 32 + i) >> (quarter * 2)) & 3;
        const int q = ((quarter < 2 ? nibbles & 15 : nibbles >> 4) | (bits << 4)) - 32;
        const int at = half * 128 + quarter * 32 + i;
        out[at] = d * static_cast<float>(Read<int8_t>(scales + at / 16)) * static_cast<float>(q);
      }
    }
  }
}

using BlockReader = void (*)(const std::byte*, float*);

BlockReader ReaderOf(TensorType type) {
  switch (type) {
    case TensorType::kF32: return [](const std::byte* at, float* out) { *out = Read<float>(at); };
    case TensorType::kF16: return [](const std::byte* at, float* out) { *out = ReadHalf(at); };
    case TensorType::kBf16:
      return [](const std::byte* at, float* out) { *out = FromBits(static_cast<uint32_t>(Read<uint16_t>(at)) << 16); };
    case TensorType::kQ8_0: return Q8_0;
    case TensorType::kQ4_0: return Q4_0;
    case TensorType::kQ4_1: return Q4_1;
    case TensorType::kQ5_0: return Q5_0;
    case TensorType::kQ5_1: return Q5_1;
    case TensorType::kQ4K: return Q4K;
    case TensorType::kQ5K: return Q5K;
    case TensorType::kQ6K: return Q6K;
  }
  return nullptr;
}

}  // namespace

int64_t StoredRow(const TensorView& tensor, int64_t row) {
  if (tensor.permuted_heads == 0) return row;
  const int64_t all = tensor.shape.size() < 2 ? tensor.columns() : tensor.rows();
  const int64_t size = all / tensor.permuted_heads, half = size / 2;
  const int64_t head = row / size, within = row % size;
  return head * size + 2 * (within % half) + within / half;
}

void Dequantize(TensorType type, const std::byte* data, int64_t values, float* out) {
  const TensorLayout& layout = LayoutOf(type);
  const BlockReader read = ReaderOf(type);
  for (int64_t done = 0; done < values; done += layout.block_values) {
    read(data, out + done);
    data += layout.block_bytes;
  }
}

void DequantizeRows(const TensorView& tensor, int64_t first, int64_t count, float* out) {
  const int64_t columns = tensor.columns(), row_bytes = tensor.row_bytes();
  if (tensor.shape.size() < 2 && tensor.permuted_heads != 0) {
    // The entries of a vector are the rows of its matrix, and may stand inside blocks: unpack, then pick.
    std::vector<float> stored(columns);
    Dequantize(tensor.type, tensor.data.data(), columns, stored.data());
    for (int64_t i = 0; i < columns; ++i) out[i] = stored[StoredRow(tensor, i)];
    return;
  }
  for (int64_t row = 0; row < count; ++row) {
    Dequantize(tensor.type, tensor.data.data() + StoredRow(tensor, first + row) * row_bytes, columns, out + row * columns);
  }
}

}  // namespace ebbinghaus::model
