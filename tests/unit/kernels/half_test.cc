#include "server/kernels/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "tests/unit/kernels/tables.h"

namespace ebbinghaus::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

bool IsNan(uint16_t value, int fraction_bits) {
  const int fraction = value & ((1 << fraction_bits) - 1);
  return (value & 0x7fff) >> fraction_bits == (0x7fff >> fraction_bits) && fraction != 0;
}

// The number that sign, exponent and fraction stand for, by definition.
double Meaning(uint16_t value, int fraction_bits) {
  const int bias = (0x7fff >> (fraction_bits + 1));
  const int exponent = (value & 0x7fff) >> fraction_bits;
  const int fraction = value & ((1 << fraction_bits) - 1);
  const double sign = (value & 0x8000) != 0 ? -1 : 1;
  if (exponent == 2 * bias + 1) return sign * kInfinity;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

struct Format {
  const char* name;
  int fraction_bits;
  float (*widen)(uint16_t);
  uint16_t (*narrow)(float);
};
constexpr Format kFormats[] = {{"bf16", 7, &Bf16ToFloat, &FloatToBf16},
                               {"fp16", 10, &HalfToFloat, &FloatToHalf}};

TEST(HalfTest, EveryPatternMeansWhatTheFormatSays) {
  for (const Format& format : kFormats) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto value = static_cast<uint16_t>(bits);
      const float wide = format.widen(value);
      if (IsNan(value, format.fraction_bits)) {
        ASSERT_TRUE(std::isnan(wide)) << format.name << " " << bits;
      } else {
        ASSERT_EQ(wide, Meaning(value, format.fraction_bits)) << format.name << " " << bits;
        ASSERT_EQ(std::signbit(wide), (bits & 0x8000) != 0) << format.name << " " << bits;
      }
    }
  }
}

TEST(HalfTest, EveryPatternSurvivesTheRoundTrip) {
  for (const Format& format : kFormats) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
      const auto value = static_cast<uint16_t>(bits);
      const uint16_t back = format.narrow(format.widen(value));
      if (IsNan(value, format.fraction_bits)) {
        ASSERT_TRUE(IsNan(back, format.fraction_bits)) << format.name << " " << bits;
      } else {
        ASSERT_EQ(back, value) << format.name;
      }
    }
  }
}

// Between each two neighbours: the middle goes to the even one, everything else to the nearer one.
TEST(HalfTest, RoundsToTheNearestAndTiesToEven) {
  for (const Format& format : kFormats) {
    const uint32_t infinity = (0x7fff >> format.fraction_bits) << format.fraction_bits;
    for (uint32_t bits = 0; bits < infinity; ++bits) {
      const auto low = static_cast<uint16_t>(bits), high = static_cast<uint16_t>(bits + 1);
      const double below = Meaning(low, format.fraction_bits);
      // Beyond the largest number comes the one that would follow it, and stands for infinity.
      const double above =
          bits + 1 == infinity
              ? 2 * below - Meaning(static_cast<uint16_t>(bits - 1), format.fraction_bits)
              : Meaning(high, format.fraction_bits);
      const auto middle = static_cast<float>(below / 2 + above / 2);
      const uint16_t even = bits % 2 == 0 ? low : high;
      ASSERT_EQ(format.narrow(middle), even) << format.name << " " << bits;
      ASSERT_EQ(format.narrow(-middle), even | 0x8000) << format.name << " " << bits;
      ASSERT_EQ(format.narrow(std::nextafter(middle, 0.0f)), low) << format.name << " " << bits;
      ASSERT_EQ(format.narrow(std::nextafter(middle, kInfinity)), high)
          << format.name << " " << bits;
    }
  }
}

TEST(HalfTest, KeepsInfinitiesAndNans) {
  for (const Format& format : kFormats) {
    EXPECT_EQ(format.widen(format.narrow(kInfinity)), kInfinity);
    EXPECT_EQ(format.widen(format.narrow(-kInfinity)), -kInfinity);
    EXPECT_EQ(format.widen(format.narrow(std::numeric_limits<float>::max())), kInfinity);
    // A NaN that only the lowest bits make one, too.
    for (const uint32_t nan : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0x7fc00000u}) {
      EXPECT_TRUE(std::isnan(format.widen(format.narrow(FloatFromBits(nan))))) << nan;
    }
  }
}

}  // namespace
}  // namespace ebbinghaus::kernels
