// The kernels between matrices and around attention, against the same in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "server/base/retention.h"
#include "tests/unit/kernels/tables.h"

namespace ebbinghaus::kernels {
namespace {

constexpr int64_t kMost = 40;
constexpr float kUntouched = 12345;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class ElementwiseTest : public TableTest {};
INSTANTIATE_TEST_SUITE_P(, ElementwiseTest, testing::ValuesIn(Tables()), TableName);

// n + 1 numbers of which the last must stay as it is.
std::vector<float> Guarded(int64_t n) { return std::vector<float>(n + 1, kUntouched); }
std::vector<float> Guarded(std::vector<float> x) {
  x.push_back(kUntouched);
  return x;
}

TEST_P(ElementwiseTest, RmsNormDividesByTheRootOfTheMeanSquare) {
  for (int64_t n = 1; n <= kMost; ++n) {
    for (const float size : {1e-4f, 1.0f, 1e4f}) {
      const auto seed = static_cast<uint32_t>(n);
      const std::vector<float> x = Random(n, seed, size), weight = Random(n, seed + 100, 2);
      std::vector<float> out = Guarded(n);
      table().rms_norm(x.data(), weight.data(), 1e-6f, n, out.data());
      double squares = 0;
      for (const double v : x) squares += v * v;
      const double scale = 1 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
      for (int64_t i = 0; i < n; ++i) {
        const double expected = x[i] * scale * weight[i];
        ASSERT_NEAR(out[i], expected, 1e-6 * std::fabs(expected)) << n << " numbers, " << i;
      }
      ASSERT_EQ(out[n], kUntouched);
    }
  }
}

TEST_P(ElementwiseTest, RmsNormOfZerosIsZero) {
  const std::vector<float> x(20, 0.0f), weight(20, 1.0f);
  std::vector<float> out(20, kUntouched);
  table().rms_norm(x.data(), weight.data(), 1e-6f, 20, out.data());
  for (const float y : out) EXPECT_EQ(y, 0);
}

TEST_P(ElementwiseTest, RmsNormMayWriteWhereItReads) {
  for (int64_t n = 1; n <= kMost; ++n) {
    std::vector<float> x = Random(n, 1), out(n);
    const std::vector<float> weight = Random(n, 2);
    table().rms_norm(x.data(), weight.data(), 1e-6f, n, out.data());
    table().rms_norm(x.data(), weight.data(), 1e-6f, n, x.data());
    ASSERT_TRUE(SameBits(x, out)) << n;
  }
}

TEST_P(ElementwiseTest, AddAdds) {
  for (int64_t n = 1; n <= kMost; ++n) {
    const std::vector<float> x = Random(n, 3), before = Random(n, 4);
    std::vector<float> sum = Guarded(before);
    table().add(x.data(), n, sum.data());
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(sum[i], before[i] + x[i]);
    ASSERT_EQ(sum[n], kUntouched);
  }
}

TEST_P(ElementwiseTest, SiluMultiplyIsTheGateTimesItsSigmoidTimesTheOther) {
  for (int64_t n = 1; n <= kMost; ++n) {
    const auto seed = static_cast<uint32_t>(n);
    const std::vector<float> gate = Random(n, seed, 30), up = Random(n, seed + 100, 5);
    std::vector<float> out = Guarded(gate);
    table().silu_multiply(out.data(), up.data(), n);
    for (int64_t i = 0; i < n; ++i) {
      const double expected = gate[i] / (1 + std::exp(-double{gate[i]})) * up[i];
      ASSERT_NEAR(out[i], expected, 1e-6 * std::fabs(expected))
          << n << " numbers, gate " << gate[i];
    }
    ASSERT_EQ(out[n], kUntouched);
  }
}

TEST_P(ElementwiseTest, SiluMultiplySaturatesAtBothEnds) {
  std::vector<float> gate = {0, -0.0f, 1e-30f, 79, 81, 100, 1e30f, -79, -81, -100, -1e30f, -3e38f};
  const std::vector<float> before = gate, up(gate.size(), 1.0f);
  table().silu_multiply(gate.data(), up.data(), static_cast<int64_t>(gate.size()));
  for (size_t i = 0; i < gate.size(); ++i) {
    const double x = before[i], expected = x < -1000 ? 0 : x / (1 + std::exp(-x));
    ASSERT_NEAR(gate[i], expected, 1e-6 * std::fabs(expected) + std::max(0.0, -x) * 2e-35) << x;
  }
}

TEST_P(ElementwiseTest, RotateTurnsTheHalvesAndScales) {
  for (int64_t half = 1; half <= kMost; ++half) {
    const std::vector<float> before = Random(2 * half, 5, 3), angles = Random(half, 6, 4);
    std::vector<float> cosine, sine, x = Guarded(before);
    for (const float angle : angles) {
      cosine.push_back(std::cos(angle));
      sine.push_back(std::sin(angle));
    }
    table().rotate(x.data(), cosine.data(), sine.data(), half, 0.125f);
    for (int64_t i = 0; i < half; ++i) {
      const double a = before[i], b = before[half + i], c = cosine[i], s = sine[i];
      ASSERT_NEAR(x[i], (a * c - b * s) / 8, 1e-7) << half;
      ASSERT_NEAR(x[half + i], (b * c + a * s) / 8, 1e-7) << half;
    }
    ASSERT_EQ(x[2 * half], kUntouched);
  }
}

TEST_P(ElementwiseTest, ExponentialsAreExactToTheirLastBits) {
  for (int64_t n = 1; n <= kMost; ++n) {
    const std::vector<float> x = Random(n, static_cast<uint32_t>(n), 87);
    std::vector<float> out = Guarded(n);
    table().exponentials(x.data(), n, out.data());
    for (int64_t i = 0; i < n; ++i) {
      const double expected = std::exp(double{x[i]});
      ASSERT_NEAR(out[i], expected, 2e-7 * expected) << x[i];
    }
    ASSERT_EQ(out[n], kUntouched);
  }
}

TEST_P(ElementwiseTest, ExponentialsAreGoodFromEndToEnd) {
  std::vector<float> x;
  for (int i = -87 * 512; i <= 88 * 512; ++i) x.push_back(static_cast<float>(i) / 512);
  std::vector<float> out(x.size());
  table().exponentials(x.data(), static_cast<int64_t>(x.size()), out.data());
  for (size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(double{x[i]});
    ASSERT_NEAR(out[i], expected, 2e-7 * expected) << x[i];
    if (i > 0) {
      ASSERT_GT(out[i], out[i - 1]) << x[i];
    }
  }
}

TEST_P(ElementwiseTest, ExponentialsBelowTheRangeAreZeroAndOfZeroOne) {
  const std::vector<float> x = {0, -0.0f, -87.01f, -100, -1e30f, -kInfinity};
  std::vector<float> out(x.size(), kUntouched);
  table().exponentials(x.data(), static_cast<int64_t>(x.size()), out.data());
  EXPECT_EQ(out, (std::vector<float>{1, 1, 0, 0, 0, 0}));
}

// spec 4.2
TEST_P(ElementwiseTest, LogWeightsAreThoseOfTheForgettingCurve) {
  std::mt19937 random(7);
  for (int64_t n = 1; n <= kMost; ++n) {
    base::AttentionWeighting weighting;
    weighting.time_step = n % 5 == 0 ? 0 : 0.01 * static_cast<double>(random() % 100);
    weighting.floor = n % 3 == 0 ? 1e-4 : 0.8;
    weighting.ceiling = n % 2 == 0 ? 1 : 0.95;
    const base::Tick now = 1000;
    std::vector<float> strength = Random(n, static_cast<uint32_t>(n), 4);
    std::vector<base::Tick> last_reset(n);
    for (float& s : strength) s = std::fabs(s) + 0.5f;
    for (base::Tick& tick : last_reset) tick = static_cast<base::Tick>(random() % 1001);
    std::vector<float> out = Guarded(n);
    const auto low = static_cast<float>(std::log(weighting.floor));
    const auto high = static_cast<float>(std::log(weighting.ceiling));
    table().log_weights(strength.data(), last_reset.data(), now,
                        static_cast<float>(weighting.time_step), low, high, n, out.data());
    for (int64_t i = 0; i < n; ++i) {
      const double expected = std::log(weighting.Weight(now, last_reset[i], strength[i]));
      ASSERT_NEAR(out[i], expected, 1e-6 * std::fabs(expected) + 1e-7);
      ASSERT_GE(out[i], low);  // I14
      ASSERT_LE(out[i], high);
    }
    ASSERT_EQ(out[n], kUntouched);
  }
}

TEST_P(ElementwiseTest, AddScaledRowsAddsAMultipleOfEachRow) {
  for (const int64_t rows : {1, 2, 7}) {
    for (const int64_t n : {16, 32, 48, 64, 80, 256}) {
      const std::vector<float> x = Random(rows * kBlockSlots, 8), before = Random(n, 9), factors = Random(rows, 10);
      std::vector<float> sum = Guarded(before);
      table().add_scaled_rows(x.data(), factors.data(), rows, n, sum.data());
      for (int64_t i = 0; i < n; ++i) {
        double expected = before[i];
        for (int64_t r = 0; r < rows; ++r) expected += double{factors[r]} * x[r * kBlockSlots + i];
        ASSERT_NEAR(sum[i], expected, 1e-6) << i;
      }
      ASSERT_EQ(sum[n], kUntouched);
    }
  }
}

TEST_P(ElementwiseTest, AddColumnsSumsInFixedPointAndRemembersTheLastStrongRow) {
  constexpr int64_t kRows = 9;
  constexpr float kThreshold = 0.5f;
  for (int64_t n = 1; n <= kMost; ++n) {
    std::vector<float> mass = Random(kRows * n, static_cast<uint32_t>(n), 1);
    for (float& m : mass) m = std::fabs(m);
    mass[0] = kThreshold;  // reached, not only passed
    std::vector<int64_t> sums(n + 1, 5);
    std::vector<int32_t> strong(n + 1, -1);
    for (const int32_t row : {3, 0, 8, 1, 2, 7, 4, 6, 5}) {  // in any order
      table().add_columns(&mass[row * n], kThreshold, row, n, sums.data(), strong.data());
    }
    for (int64_t i = 0; i < n; ++i) {
      int64_t sum = 5;
      int32_t last = -1;
      for (int32_t row = 0; row < kRows; ++row) {
        const float m = mass[row * n + i];
        sum += std::llrint(double{m} / kMassUnit);
        if (m >= kThreshold) last = row;
      }
      ASSERT_EQ(sums[i], sum);
      ASSERT_EQ(strong[i], last);
    }
    ASSERT_EQ(sums[n], 5);
    ASSERT_EQ(strong[n], -1);
  }
}

TEST_P(ElementwiseTest, AddColumnsHoldsAMassOfOneOverManyRows) {
  const float one = 1;
  int64_t sum = 0;
  int32_t strong = -1;
  for (int32_t row = 0; row < 1000; ++row) table().add_columns(&one, 1, row, 1, &sum, &strong);
  EXPECT_EQ(static_cast<double>(sum) * kMassUnit, 1000);
  EXPECT_EQ(strong, 999);
}

struct SoftmaxCase {
  const float* log_weights;
  const float* factors;
};

TEST_P(ElementwiseTest, BlockSoftmaxWeighsExponentiatesAndSums) {
  const std::vector<float> scores = Random(kBlockSlots, 10, 20);
  std::vector<float> log_weights = Random(kBlockSlots, 11), factors = Random(kBlockSlots, 12);
  for (float& w : log_weights) w = -std::fabs(w);
  for (float& f : factors) f = std::fabs(f);
  for (const SoftmaxCase& c :
       {SoftmaxCase{nullptr, nullptr}, SoftmaxCase{log_weights.data(), nullptr},
        SoftmaxCase{nullptr, factors.data()}}) {
    for (int64_t visible = 1; visible <= kBlockSlots; visible += visible < 40 ? 1 : 24) {
      std::vector<float> block = Guarded(scores);
      // What lies beyond the last tile of scores was never computed.
      for (int64_t i = visible; i < kBlockSlots; ++i) block[i] = std::nanf("");
      float maximum, sum;
      table().block_softmax(block.data(), visible, c.log_weights, c.factors, &maximum, &sum);
      std::vector<double> weighed;
      for (int64_t i = 0; i < visible; ++i) {
        weighed.push_back(double{scores[i]} * (c.factors == nullptr ? 1 : c.factors[i]) +
                          (c.log_weights == nullptr ? 0 : c.log_weights[i]));
      }
      const double largest = *std::max_element(weighed.begin(), weighed.end());
      double total = 0;
      ASSERT_NEAR(maximum, largest, 2e-6);
      for (int64_t i = 0; i < visible; ++i) {
        const double expected = std::exp(weighed[i] - largest);
        total += expected;
        ASSERT_NEAR(block[i], expected, 5e-6 * expected) << visible;
      }
      ASSERT_NEAR(sum, total, 5e-6 * total);
      for (int64_t i = visible; i < kBlockSlots; ++i) ASSERT_EQ(block[i], 0) << visible;
      ASSERT_EQ(block[kBlockSlots], kUntouched);
    }
  }
}

TEST_P(ElementwiseTest, BlockSoftmaxOfNothingIsNothing) {
  std::vector<float> scores = Random(kBlockSlots, 13);
  float maximum, sum;
  table().block_softmax(scores.data(), 0, nullptr, nullptr, &maximum, &sum);
  EXPECT_EQ(maximum, -kInfinity);
  EXPECT_EQ(sum, 0);
  for (const float p : scores) EXPECT_EQ(p, 0);
}

}  // namespace
}  // namespace ebbinghaus::kernels
