#include "server/base/retention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ebbinghaus::base {
namespace {

TEST(RetentionTest, TimeIsTicksSinceTheLastResetTimesTheStep) {
  EXPECT_DOUBLE_EQ(ElapsedTime(150, 50, 0.01), 1.0);
  EXPECT_EQ(ElapsedTime(50, 50, 0.01), 0.0);
  EXPECT_EQ(ElapsedTime(1'000'000, 0, 0.0), 0.0);
}

TEST(RetentionTest, TheSpanBetweenTheFarthestTicksDoesNotOverflow) {
  constexpr Tick kLowest = std::numeric_limits<Tick>::min(),
                 kHighest = std::numeric_limits<Tick>::max();
  EXPECT_EQ(ElapsedTime(kHighest, kLowest, 1.0), 4294967295.0);
}

TEST(RetentionTest, FollowsTheForgettingCurve) {
  EXPECT_EQ(Retention(0, 5), 1.0);
  EXPECT_DOUBLE_EQ(Retention(5, 5), std::exp(-1.0));
  EXPECT_NEAR(Retention(5 * std::log(2.0), 5), 0.5, 1e-15);
  EXPECT_NEAR(Retention(5 * std::log(1000.0), 5), 0.001, 1e-17);
}

// I10: the clock only subtracts, yet gives what adding dt at every step would.
TEST(RetentionTest, LazyTimeEqualsSteppingTime) {
  for (const double dt : {0.01, 0.05, 0.175, 1.0}) {
    double stepped = 0;
    for (Tick now = 1; now <= 10'000; ++now) {
      stepped += dt;
      ASSERT_NEAR(ElapsedTime(now, 0, dt), stepped, 1e-9 * stepped);
      ASSERT_NEAR(Retention(ElapsedTime(now, 0, dt), 5), std::exp(-stepped / 5), 1e-8);
    }
  }
}

TEST(RetentionTest, WeightIsRetentionBetweenFloorAndCeiling) {
  const AttentionWeighting weighting{
      .form = AttentionWeighting::Form::kLogBias, .time_step = 0.01, .floor = 0.8, .ceiling = 0.95};
  EXPECT_EQ(weighting.Weight(10, 10, 5.0f), 0.95);
  EXPECT_EQ(weighting.Weight(10'000, 10, 5.0f), 0.8);
  EXPECT_DOUBLE_EQ(weighting.Weight(60, 10, 5.0f), std::exp(-0.1));
  for (Tick now = 0; now < 2000; ++now) {
    const double weight = weighting.Weight(now, 0, 5.0f);
    ASSERT_GE(weight, 0.8);
    ASSERT_LE(weight, 0.95);
  }
}

}  // namespace
}  // namespace ebbinghaus::base
