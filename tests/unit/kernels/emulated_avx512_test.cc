// Whether the emulation does what Intel documents, where that is easily got wrong.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "server/kernels/half.h"
// After all others.
#include "tests/support/emulated_avx512.h"

namespace ebbinghaus::support::avx512 {
namespace {

using kernels::Bf16ToFloat;
using kernels::FloatFromBits;
using kernels::FloatToBf16;

Bf16s Pairs(float low, float high) {
  Bf16s r;
  for (int i = 0; i < 16; ++i) {
    r.v[2 * i] = FloatToBf16(low);
    r.v[2 * i + 1] = FloatToBf16(high);
  }
  return r;
}

TEST(EmulatedAvx512Test, BytesMultiplyUnsignedBySigned) {
  const Ints sum = _mm512_dpbusd_epi32(
      _mm512_set1_epi32(7), _mm512_set1_epi8(static_cast<int8_t>(255)), _mm512_set1_epi8(-128));
  for (const int32_t lane : sum.v) EXPECT_EQ(lane, 7 - 4 * 255 * 128);
}

TEST(EmulatedAvx512Test, SumsOfBytesWrapAround) {
  const Ints sum = _mm512_dpbusd_epi32(_mm512_set1_epi32(std::numeric_limits<int32_t>::max()),
                                       _mm512_set1_epi8(1), _mm512_set1_epi8(1));
  for (const int32_t lane : sum.v) EXPECT_EQ(lane, std::numeric_limits<int32_t>::min() + 3);
}

TEST(EmulatedAvx512Test, PairsAreAddedOneByOneTheUpperFirst) {
  // 2^24 + 1 is halfway and rounds to 2^24. Had the lower come first, or both together: 2^24 + 4.
  const float large = 16777216;
  const Floats up = _mm512_dpbf16_ps(_mm512_set1_ps(large), Pairs(3, 1), Pairs(1, 1));
  for (const float lane : up.v) EXPECT_EQ(lane, large + 4);  // 2^24 + 3 is halfway: to even, + 4
  const Floats down = _mm512_dpbf16_ps(_mm512_set1_ps(large), Pairs(1, 3), Pairs(1, 1));
  for (const float lane : down.v) EXPECT_EQ(lane, large + 4);  // + 4, then + 5, to even
  const Floats first = _mm512_dpbf16_ps(_mm512_set1_ps(0), Pairs(1, large), Pairs(1, 1));
  for (const float lane : first.v) EXPECT_EQ(lane, large);
  const Floats cancels = _mm512_dpbf16_ps(_mm512_set1_ps(large), Pairs(-large, 1), Pairs(1, 1));
  for (const float lane : cancels.v) EXPECT_EQ(lane, 0);  // the 1 came first and was lost
  const Floats keeps = _mm512_dpbf16_ps(_mm512_set1_ps(large), Pairs(1, -large), Pairs(1, 1));
  for (const float lane : keeps.v) EXPECT_EQ(lane, 1);  // the 1 came last
}

TEST(EmulatedAvx512Test, PairsKnowNoDenormals) {
  const float denormal = FloatFromBits(0x00400000);
  for (const float lane : _mm512_dpbf16_ps(_mm512_set1_ps(denormal), Pairs(0, 0), Pairs(0, 0)).v) {
    EXPECT_EQ(lane, 0);
  }
  for (const float lane :
       _mm512_dpbf16_ps(_mm512_set1_ps(0), Pairs(denormal, 0), Pairs(1e38f, 0)).v) {
    EXPECT_EQ(lane, 0);
  }
  for (const float lane :
       _mm512_dpbf16_ps(_mm512_set1_ps(0), Pairs(1e-30f, 0), Pairs(1e-10f, 0)).v) {
    EXPECT_EQ(lane, 0);
  }
}

TEST(EmulatedAvx512Test, RoundsToBf16LikeHalfButForDenormals) {
  for (const float x : {0.0f, -0.0f, 1.0f, 1.00390625f, 1.01171875f, -3.14159f, 1e30f, 3.4e38f}) {
    EXPECT_EQ(_mm512_cvtneps_pbh(_mm512_set1_ps(x)).v[3], FloatToBf16(x)) << x;
  }
  EXPECT_EQ(_mm512_cvtneps_pbh(_mm512_set1_ps(FloatFromBits(0x007fffff))).v[0], 0);
  EXPECT_EQ(_mm512_cvtneps_pbh(_mm512_set1_ps(FloatFromBits(0x807fffff))).v[0], 0x8000);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(_mm512_cvtneps_pbh(_mm512_set1_ps(std::nanf(""))).v[0])));
}

TEST(EmulatedAvx512Test, WhatFitsNoIntegerBecomesTheSmallest) {
  for (const float x : {3e9f, -3e9f, std::nanf(""), 2147483648.0f}) {
    EXPECT_EQ(_mm512_cvtps_epi32(_mm512_set1_ps(x)).v[0], std::numeric_limits<int32_t>::min()) << x;
  }
  EXPECT_EQ(_mm512_cvtps_epi32(_mm512_set1_ps(2.5f)).v[0], 2);
  EXPECT_EQ(_mm512_cvtps_epi32(_mm512_set1_ps(-3.5f)).v[0], -4);
}

TEST(EmulatedAvx512Test, WordsShiftByThemselves) {
  EXPECT_EQ(_mm512_srli_epi16(_mm512_set1_epi32(0x00f1'00f2), 4).v[0], 0x000f'000f);
  EXPECT_EQ(_mm512_srli_epi16(_mm512_set1_epi32(static_cast<int32_t>(0xabcd'1234)), 4).v[15],
            0x0abc'0123);
}

}  // namespace
}  // namespace ebbinghaus::support::avx512
