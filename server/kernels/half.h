// The two 16-bit floating point formats, without help from the processor.
#pragma once

#include <stdint.h>
#include <string.h>

namespace ebbinghaus::kernels {

inline float FloatFromBits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t BitsOf(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float Bf16ToFloat(uint16_t value) { return FloatFromBits(static_cast<uint32_t>(value) << 16); }

// To the nearest, ties to even; NaN stays NaN.
inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = BitsOf(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// IEEE 754 binary16.
inline float HalfToFloat(uint16_t value) {
  const uint32_t sign = static_cast<uint32_t>(value & 0x8000) << 16;
  const uint32_t exponent = (value >> 10) & 31, fraction = value & 1023;
  if (exponent == 31) return FloatFromBits(sign | 0x7f800000 | (fraction << 13));
  if (exponent != 0) return FloatFromBits(sign | ((exponent + 112) << 23) | (fraction << 13));
  const float magnitude = static_cast<float>(fraction) * (1.0f / 16777216.0f);  // subnormal: fraction * 2^-24
  return sign ? -magnitude : magnitude;
}

// To the nearest, ties to even; beyond the range to infinity.
inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = BitsOf(value), sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    // Adding 0.5 leaves the fraction, rounded as wanted, in the lowest bits.
    const uint32_t shifted = BitsOf(FloatFromBits(magnitude) + 0.5f);
    return static_cast<uint16_t>(sign | (shifted - 0x3f000000));
  }
  const uint32_t rounded = magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

}  // namespace ebbinghaus::kernels
