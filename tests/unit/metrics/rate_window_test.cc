#include "server/metrics/rate_window.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>
#include <utility>

namespace ebbinghaus::metrics {
namespace {

using std::chrono::milliseconds;

base::TimePoint At(milliseconds since_epoch) { return base::TimePoint(since_epoch); }

TEST(RateWindow, IsZeroBeforeAnythingHappened) {
  RateWindow window;
  EXPECT_EQ(window.PerSecond(At(milliseconds(0))), 0);
  EXPECT_EQ(window.PerSecond(At(milliseconds(123456))), 0);
}

TEST(RateWindow, SpreadsABurstOverTenSecondsAndThenForgetsIt) {
  RateWindow window;
  window.Add(At(milliseconds(50'000)), 100);
  EXPECT_DOUBLE_EQ(window.PerSecond(At(milliseconds(50'000))), 10);
  EXPECT_DOUBLE_EQ(window.PerSecond(At(milliseconds(59'899))), 10);
  EXPECT_DOUBLE_EQ(window.PerSecond(At(milliseconds(60'000))), 0);
  EXPECT_DOUBLE_EQ(window.PerSecond(At(milliseconds(5'000'000))), 0);
}

TEST(RateWindow, ReusesABucketOfAnEarlierRoundWithoutItsCount) {
  RateWindow window;
  window.Add(At(milliseconds(1'000)), 70);
  window.Add(At(milliseconds(11'000)), 30);  // the same place in the ring
  EXPECT_DOUBLE_EQ(window.PerSecond(At(milliseconds(11'000))), 3);
}

TEST(RateWindow, LiesBetweenTheExactRatesOfAWindowOfTenAndOfNinePointNineSeconds) {
  std::mt19937 random(7);
  RateWindow window;
  std::deque<std::pair<int64_t, uint64_t>> events;  // ms, count
  int64_t now = 3'000;
  const auto exact = [&](int64_t span) {
    double sum = 0;
    for (const auto& [at, count] : events) sum += at > now - span ? static_cast<double>(count) : 0;
    return sum / 10;
  };
  for (int i = 0; i < 5'000; ++i) {
    now += static_cast<int64_t>(random() % (i % 500 == 0 ? 20'000 : 90));
    const uint64_t count = random() % 5;
    window.Add(At(milliseconds(now)), count);
    events.emplace_back(now, count);
    const double rate = window.PerSecond(At(milliseconds(now)));
    EXPECT_GE(rate, exact(9'900) - 1e-9);
    EXPECT_LE(rate, exact(10'000) + 1e-9);
  }
}

}  // namespace
}  // namespace ebbinghaus::metrics
