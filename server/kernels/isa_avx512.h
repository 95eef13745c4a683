// Sixteen lanes in one register of AVX-512, with the VNNI and BF16 dot products. Same contract as isa_portable.h.
#pragma once

#ifdef EBBINGHAUS_AVX512_INTRINSICS  // tests on machines without it: a header that computes the same in plain C++
#include EBBINGHAUS_AVX512_INTRINSICS
#else
#include <immintrin.h>
#endif
#include <stdint.h>
#include <string.h>

namespace ebbinghaus::kernels {
namespace {

struct Avx512 {
  static constexpr int kTileRows = 8;
  static constexpr int kByteOffset = 128;  // vpdpbusd takes the bytes as they are stored

  using F = __m512;
  using I = __m512i;
  using Mask = __mmask16;
  using Bytes = __m512i;
  using Nibbles = __m512i;
  using NibbleSum = __m512i;

  static F Zero() { return _mm512_setzero_ps(); }
  static F Set(float v) { return _mm512_set1_ps(v); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F LoadHalf(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static F LoadBytesAsFloat(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F Add(F x, F y) { return _mm512_add_ps(x, y); }
  static F Sub(F x, F y) { return _mm512_sub_ps(x, y); }
  static F Mul(F x, F y) { return _mm512_mul_ps(x, y); }
  static F Div(F x, F y) { return _mm512_div_ps(x, y); }
  static F Fma(F x, F y, F z) { return _mm512_fmadd_ps(x, y, z); }
  static F Max(F x, F y) { return _mm512_max_ps(x, y); }
  static F Min(F x, F y) { return _mm512_min_ps(x, y); }
  static F Abs(F x) { return _mm512_abs_ps(x); }
  static Mask AtLeast(F x, F y) { return _mm512_cmp_ps_mask(x, y, _CMP_GE_OQ); }
  static F Select(Mask m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
  static I Select(Mask m, I yes, I no) { return _mm512_mask_blend_epi32(m, no, yes); }

  static I SetInt(int32_t v) { return _mm512_set1_epi32(v); }
  static I LoadInt(const void* p) { return _mm512_loadu_si512(p); }
  static void StoreInt(int32_t* p, I x) { _mm512_storeu_si512(p, x); }
  static I AddInt(I x, I y) { return _mm512_add_epi32(x, y); }
  static I SubInt(I x, I y) { return _mm512_sub_epi32(x, y); }
  static F ToFloat(I x) { return _mm512_cvtepi32_ps(x); }
  static I Round(F x) { return _mm512_cvtps_epi32(x); }
  static F PowerOfTwo(I x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(127)), 23));
  }
  static void StoreAsBytes(int8_t* p, I x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(x));
  }

  static Bytes LoadBytes(const uint8_t* line) { return LoadInt(line); }
  static I Dot(I acc, Bytes w, const int8_t* x) { return _mm512_dpbusd_epi32(acc, w, BroadcastFour(x)); }
  static Nibbles LowNibbles(const uint8_t* line) { return _mm512_and_si512(LoadInt(line), _mm512_set1_epi8(15)); }
  static Nibbles HighNibbles(const uint8_t* line) {
    return _mm512_and_si512(_mm512_srli_epi16(LoadInt(line), 4), _mm512_set1_epi8(15));
  }
  static NibbleSum NoNibbles() { return _mm512_setzero_si512(); }
  static NibbleSum DotNibbles(NibbleSum acc, Nibbles w, const int8_t* x) {
    return _mm512_dpbusd_epi32(acc, w, BroadcastFour(x));
  }
  static I Total(NibbleSum x) { return x; }

  // Activations are rounded to bf16 too, which is what vdpbf16ps multiplies.
  using PairRow = uint16_t;
  static constexpr int kPairRowBytesPerValue = 2;
  static void PreparePairs(const float* x, int64_t n, PairRow* out) {
    int64_t i = 0;
    for (; i + 16 <= n; i += 16) {
      const __m256bh rounded = _mm512_cvtneps_pbh(Load(x + i));
      memcpy(out + i, &rounded, sizeof rounded);
    }
    if (i == n) return;
    float rest[16] = {};
    memcpy(rest, x + i, (n - i) * sizeof *x);
    const __m256bh rounded = _mm512_cvtneps_pbh(Load(rest));
    memcpy(out + i, &rounded, (n - i) * sizeof *out);
  }
  template <int M>
  static void DotPairs(const uint16_t* line, const PairRow* x, int64_t stride, F (&acc)[M]) {
    const I raw = LoadInt(line);
    for (int m = 0; m < M; ++m) {
      int32_t pair;
      memcpy(&pair, x + m * stride, sizeof pair);
      acc[m] = DotPair(acc[m], raw, _mm512_set1_epi32(pair));
    }
  }

 private:
  static F DotPair(F acc, I w, I x) {
    __m512bh a, b;
    memcpy(&a, &w, sizeof a);
    memcpy(&b, &x, sizeof b);
    return _mm512_dpbf16_ps(acc, a, b);
  }
  static I BroadcastFour(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
  }
};

}  // namespace
}  // namespace ebbinghaus::kernels
