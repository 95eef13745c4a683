// The AVX-512 intrinsics that server/kernels/isa_avx512.h uses, in plain C++, so that its kernels
// can be tested on a machine without them. Slow.
//
// Takes the names of the intrinsics and their types: include it after everything else, and never
// together with an intrinsics header's own vectors.
// Source: Intel's instruction set reference. The bf16 instructions heed no rounding mode: to the
// nearest, ties to even; they take denormals for zeros and give zeros for them.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "server/kernels/half.h"

namespace ebbinghaus::support::avx512 {

struct Floats {
  float v[16];
};
struct Ints {
  int32_t v[16];
};
struct Bf16Halves {
  uint16_t v[16];
};
struct Bf16s {
  uint16_t v[32];
};
struct Bytes32 {
  uint8_t v[32];
};
struct Bytes16 {
  uint8_t v[16];
};

}  // namespace ebbinghaus::support::avx512

#define __m512 ::ebbinghaus::support::avx512::Floats
#define __m512i ::ebbinghaus::support::avx512::Ints
#define __m512bh ::ebbinghaus::support::avx512::Bf16s
#define __m256bh ::ebbinghaus::support::avx512::Bf16Halves
#define __m256i ::ebbinghaus::support::avx512::Bytes32
#define __m128i ::ebbinghaus::support::avx512::Bytes16
#define __mmask16 uint16_t
#undef _CMP_GE_OQ
#define _CMP_GE_OQ 29

// Sixteen scalar operations each: inlined in every tile of the kernels, they take minutes to
// compile under sanitizers.
#define NOT_INLINED [[gnu::noinline]] inline

namespace ebbinghaus::support::avx512 {

template <class To, class From>
To Cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
template <class To>
To Read(const void* from) {
  To to;
  std::memcpy(&to, from, sizeof to);
  return to;
}
template <class Function>
Floats EachFloat(const Function& f) {
  Floats r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
template <class Function>
Ints EachInt(const Function& f) {
  Ints r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
// Vectors of integers wrap around.
inline int32_t Wrap(uint32_t x) { return static_cast<int32_t>(x); }
inline uint32_t Bits(int32_t x) { return static_cast<uint32_t>(x); }

// -------------------------------------------------------------------------------------------
// floats
NOT_INLINED Floats _mm512_set1_ps(float x) {
  return EachFloat([&](int) { return x; });
}
NOT_INLINED Floats _mm512_setzero_ps() { return _mm512_set1_ps(0); }
NOT_INLINED Floats _mm512_loadu_ps(const void* p) { return Read<Floats>(p); }
NOT_INLINED void _mm512_storeu_ps(void* p, Floats x) { std::memcpy(p, &x, sizeof x); }
NOT_INLINED Floats _mm512_add_ps(Floats x, Floats y) {
  return EachFloat([&](int i) { return x.v[i] + y.v[i]; });
}
NOT_INLINED Floats _mm512_sub_ps(Floats x, Floats y) {
  return EachFloat([&](int i) { return x.v[i] - y.v[i]; });
}
NOT_INLINED Floats _mm512_mul_ps(Floats x, Floats y) {
  return EachFloat([&](int i) { return x.v[i] * y.v[i]; });
}
NOT_INLINED Floats _mm512_div_ps(Floats x, Floats y) {
  return EachFloat([&](int i) { return x.v[i] / y.v[i]; });
}
NOT_INLINED Floats _mm512_fmadd_ps(Floats x, Floats y, Floats z) {
  return EachFloat([&](int i) { return std::fma(x.v[i], y.v[i], z.v[i]); });
}
// Of a NaN and a number, or of two zeros: the second operand.
NOT_INLINED Floats _mm512_max_ps(Floats x, Floats y) {
  return EachFloat([&](int i) { return x.v[i] > y.v[i] ? x.v[i] : y.v[i]; });
}
NOT_INLINED Floats _mm512_min_ps(Floats x, Floats y) {
  return EachFloat([&](int i) { return x.v[i] < y.v[i] ? x.v[i] : y.v[i]; });
}
NOT_INLINED Floats _mm512_abs_ps(Floats x) {
  return EachFloat([&](int i) { return std::fabs(x.v[i]); });
}
NOT_INLINED uint16_t _mm512_cmp_ps_mask(Floats x, Floats y, int /*always _CMP_GE_OQ*/) {
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= unsigned{x.v[i] >= y.v[i]} << i;
  return static_cast<uint16_t>(mask);
}
NOT_INLINED Floats _mm512_mask_blend_ps(uint16_t mask, Floats clear, Floats set) {
  return EachFloat([&](int i) { return (mask >> i & 1) != 0 ? set.v[i] : clear.v[i]; });
}

// -----------------------------------------------------------------------------------------
// integers
NOT_INLINED Bytes32 _mm256_loadu_si256(const Bytes32* p) { return Read<Bytes32>(p); }
NOT_INLINED Bytes16 _mm_loadu_si128(const Bytes16* p) { return Read<Bytes16>(p); }
NOT_INLINED void _mm_storeu_si128(Bytes16* p, Bytes16 x) { std::memcpy(p, &x, sizeof x); }
NOT_INLINED Ints _mm512_loadu_si512(const void* p) { return Read<Ints>(p); }
NOT_INLINED void _mm512_storeu_si512(void* p, Ints x) { std::memcpy(p, &x, sizeof x); }
NOT_INLINED Ints _mm512_set1_epi32(int32_t x) {
  return EachInt([&](int) { return x; });
}
NOT_INLINED Ints _mm512_set1_epi8(int8_t x) {
  return _mm512_set1_epi32(Wrap(static_cast<uint8_t>(x) * 0x01010101u));
}
NOT_INLINED Ints _mm512_setzero_si512() { return _mm512_set1_epi32(0); }
NOT_INLINED Ints _mm512_add_epi32(Ints x, Ints y) {
  return EachInt([&](int i) { return Wrap(Bits(x.v[i]) + Bits(y.v[i])); });
}
NOT_INLINED Ints _mm512_sub_epi32(Ints x, Ints y) {
  return EachInt([&](int i) { return Wrap(Bits(x.v[i]) - Bits(y.v[i])); });
}
NOT_INLINED Ints _mm512_and_si512(Ints x, Ints y) {
  return EachInt([&](int i) { return x.v[i] & y.v[i]; });
}
NOT_INLINED Ints _mm512_slli_epi32(Ints x, unsigned count) {
  return EachInt([&](int i) { return Wrap(Bits(x.v[i]) << count); });
}
NOT_INLINED Ints _mm512_srli_epi16(Ints x, unsigned count) {
  return EachInt([&](int i) {
    const uint32_t high = Bits(x.v[i]) >> 16, low = Bits(x.v[i]) & 0xffff;
    return Wrap((high >> count) << 16 | low >> count);
  });
}
NOT_INLINED Ints _mm512_mask_blend_epi32(uint16_t mask, Ints clear, Ints set) {
  return EachInt([&](int i) { return (mask >> i & 1) != 0 ? set.v[i] : clear.v[i]; });
}
// Adds to each lane the products of its four bytes: those of `x` unsigned, those of `y` signed.
NOT_INLINED Ints _mm512_dpbusd_epi32(Ints sum, Ints x, Ints y) {
  const auto a = Read<std::array<uint8_t, 64>>(&x);
  const auto b = Read<std::array<int8_t, 64>>(&y);
  return EachInt([&](int i) {
    uint32_t total = Bits(sum.v[i]);
    for (int j = 4 * i; j < 4 * i + 4; ++j) total += Bits(int32_t{a[j]} * b[j]);
    return Wrap(total);
  });
}

// --------------------------------------------------------------------------------------
// conversions
NOT_INLINED Floats _mm512_castsi512_ps(Ints x) { return Cast<Floats>(x); }
NOT_INLINED Floats _mm512_cvtepi32_ps(Ints x) {
  return EachFloat([&](int i) { return static_cast<float>(x.v[i]); });
}
// To the nearest, ties to even; what does not fit becomes the smallest integer.
NOT_INLINED Ints _mm512_cvtps_epi32(Floats x) {
  return EachInt([&](int i) {
    const float rounded = std::nearbyint(x.v[i]);
    const bool fits = rounded >= -2147483648.0f && rounded < 2147483648.0f;
    return fits ? static_cast<int32_t>(rounded) : std::numeric_limits<int32_t>::min();
  });
}
NOT_INLINED Ints _mm512_cvtepi8_epi32(Bytes16 x) {
  return EachInt([&](int i) { return int32_t{static_cast<int8_t>(x.v[i])}; });
}
NOT_INLINED Bytes16 _mm512_cvtsepi32_epi8(Ints x) {  // saturates
  Bytes16 r;
  for (int i = 0; i < 16; ++i) {
    r.v[i] = static_cast<uint8_t>(x.v[i] < -128 ? -128 : x.v[i] > 127 ? 127 : x.v[i]);
  }
  return r;
}
NOT_INLINED Floats _mm512_cvtph_ps(Bytes32 x) {
  const auto halves = Cast<Bf16Halves>(x);
  return EachFloat([&](int i) { return kernels::HalfToFloat(halves.v[i]); });
}

// ---------------------------------------------------------------------------------------------
// bf16
inline float WithoutDenormal(float x) {
  return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x;
}
NOT_INLINED Bf16Halves _mm512_cvtneps_pbh(Floats x) {
  Bf16Halves r;
  for (int i = 0; i < 16; ++i) r.v[i] = kernels::FloatToBf16(WithoutDenormal(x.v[i]));
  return r;
}
// Two fused multiply-adds, of the upper halves first.
NOT_INLINED Floats _mm512_dpbf16_ps(Floats sum, Bf16s x, Bf16s y) {
  return EachFloat([&](int i) {
    float total = WithoutDenormal(sum.v[i]);
    for (const int j : {2 * i + 1, 2 * i}) {
      const float a = WithoutDenormal(kernels::Bf16ToFloat(x.v[j]));
      const float b = WithoutDenormal(kernels::Bf16ToFloat(y.v[j]));
      total = WithoutDenormal(std::fma(a, b, total));
    }
    return total;
  });
}

}  // namespace ebbinghaus::support::avx512
#undef NOT_INLINED

namespace ebbinghaus::kernels {
using namespace support::avx512;  // where isa_avx512.h looks for them
}
