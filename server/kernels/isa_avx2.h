// Sixteen lanes as two registers of AVX2, with FMA and F16C. Same contract as isa_portable.h, where each operation is
// spelled out.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace ebbinghaus::kernels {
namespace {

struct Avx2 {
  static constexpr int kTileRows = 4;
  static constexpr int kByteOffset = 0;

  struct F {
    __m256 a, b;
  };
  struct I {
    __m256i a, b;
  };
  struct Mask {
    __m256 a, b;
  };
  // The signed weights and their magnitudes: a product of a magnitude and a byte that took the weight's sign fits the
  // 16 bits that vpmaddubsw sums pairs in (2 * 128 * 127), which an unsigned weight would overflow.
  struct Bytes {
    I value, magnitude;
  };
  using Nibbles = I;
  using NibbleSum = I;  // 16 lanes of two 16-bit sums: 8 lines of 2 * 15 * 127 stay below 2^15

  static F Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static F Set(float v) {
    const __m256 x = _mm256_set1_ps(v);
    return {x, x};
  }
  static F Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static void Store(float* p, F x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
  }
  static F LoadHalf(const uint16_t* p) {
    return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
  }
  static F LoadBytesAsFloat(const int8_t* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8))))};
  }
  static F Add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
  static F Sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
  static F Mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
  static F Div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
  static F Fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
  static F Max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
  static F Min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
  static F Abs(F x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
  }
  static Mask AtLeast(F x, F y) {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)};
  }
  static F Select(Mask m, F yes, F no) {
    return {_mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b)};
  }
  static I Select(Mask m, I yes, I no) {
    return {_mm256_blendv_epi8(no.a, yes.a, _mm256_castps_si256(m.a)),
            _mm256_blendv_epi8(no.b, yes.b, _mm256_castps_si256(m.b))};
  }

  static I SetInt(int32_t v) {
    const __m256i x = _mm256_set1_epi32(v);
    return {x, x};
  }
  static I LoadInt(const void* p) {
    const auto* at = static_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
  }
  static void StoreInt(int32_t* p, I x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
  }
  static I AddInt(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
  static I SubInt(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
  static F ToFloat(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
  static I Round(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
  static F PowerOfTwo(I x) {
    const __m256i bias = _mm256_set1_epi32(127);
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(x.a, bias), 23)),
            _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(x.b, bias), 23))};
  }
  static void StoreAsBytes(int8_t* p, I x) {
    // Both packs work within halves; the permutation puts the four quarters of eight bytes in order.
    const __m256i words = _mm256_packs_epi32(x.a, x.b);                            // a0-3 b0-3 | a4-7 b4-7
    const __m256i bytes = _mm256_packs_epi16(words, words);                        // a0-3 b0-3 .. | a4-7 b4-7 ..
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 0, 0, 0);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order)));
  }

  static Bytes LoadBytes(const uint8_t* line) {
    const I raw = LoadInt(line);
    const __m256i flip = _mm256_set1_epi8(static_cast<char>(0x80));
    const I value{_mm256_xor_si256(raw.a, flip), _mm256_xor_si256(raw.b, flip)};
    return {value, {_mm256_abs_epi8(value.a), _mm256_abs_epi8(value.b)}};
  }
  static I Dot(I acc, const Bytes& w, const int8_t* x) {
    const __m256i four = BroadcastFour(x), ones = _mm256_set1_epi16(1);
    const __m256i a = _mm256_maddubs_epi16(w.magnitude.a, _mm256_sign_epi8(four, w.value.a));
    const __m256i b = _mm256_maddubs_epi16(w.magnitude.b, _mm256_sign_epi8(four, w.value.b));
    return {_mm256_add_epi32(acc.a, _mm256_madd_epi16(a, ones)), _mm256_add_epi32(acc.b, _mm256_madd_epi16(b, ones))};
  }
  static Nibbles LowNibbles(const uint8_t* line) {
    const I raw = LoadInt(line);
    const __m256i low = _mm256_set1_epi8(15);
    return {_mm256_and_si256(raw.a, low), _mm256_and_si256(raw.b, low)};
  }
  static Nibbles HighNibbles(const uint8_t* line) {
    const I raw = LoadInt(line);
    const __m256i low = _mm256_set1_epi8(15);
    return {_mm256_and_si256(_mm256_srli_epi16(raw.a, 4), low), _mm256_and_si256(_mm256_srli_epi16(raw.b, 4), low)};
  }
  static NibbleSum NoNibbles() { return SetInt(0); }
  static NibbleSum DotNibbles(NibbleSum acc, Nibbles w, const int8_t* x) {
    const __m256i four = BroadcastFour(x);
    return {_mm256_add_epi16(acc.a, _mm256_maddubs_epi16(w.a, four)),
            _mm256_add_epi16(acc.b, _mm256_maddubs_epi16(w.b, four))};
  }
  static I Total(NibbleSum x) {
    const __m256i ones = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(x.a, ones), _mm256_madd_epi16(x.b, ones)};
  }

  using PairRow = float;
  static constexpr int kPairRowBytesPerValue = 4;
  static void PreparePairs(const float* x, int64_t n, PairRow* out) { memcpy(out, x, n * sizeof *x); }
  template <int M>
  static void DotPairs(const uint16_t* line, const PairRow* x, int64_t stride, F (&acc)[M]) {
    const I raw = LoadInt(line);
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000));
    const F even{_mm256_castsi256_ps(_mm256_slli_epi32(raw.a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(raw.b, 16))};
    const F odd{_mm256_castsi256_ps(_mm256_and_si256(raw.a, high)), _mm256_castsi256_ps(_mm256_and_si256(raw.b, high))};
    for (int m = 0; m < M; ++m) {
      acc[m] = Fma(even, Set(x[m * stride]), acc[m]);
      acc[m] = Fma(odd, Set(x[m * stride + 1]), acc[m]);
    }
  }

 private:
  static __m256i BroadcastFour(const int8_t* x) {
    int32_t four;
    memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
};

}  // namespace
}  // namespace ebbinghaus::kernels
