#include "server/memory/retention_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "server/base/retention.h"
#include "tests/unit/memory/masked_model.h"

namespace ebbinghaus::memory {
namespace {

using base::Position;
using base::Slot;
using base::Tick;
using ::testing::ElementsAre;

RetentionState Born(Position tokens, UpdateRule rule = {}, uint32_t layers = 1) {
  RetentionState state(layers, rule);
  for (Position p = 0; p < tokens; ++p) state.Append(p, 0);
  return state;
}

double SumOfStrength(const LayerState& layer) {
  return std::accumulate(layer.strength.begin(), layer.strength.end(), 0.0);
}

std::vector<Position> Positions(Position count) {
  std::vector<Position> positions(count);
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

TEST(RetentionStateTest, ANewbornTakesTheNextSlotOfEveryLayerWithFullRetention) {
  RetentionState state = Born(3, {.initial_strength = 7}, 2);
  state.Append(3, 42);
  EXPECT_EQ(state.next_position(), 4u);
  EXPECT_EQ(state.max_live(), 4u);
  for (uint32_t l = 0; l < 2; ++l) {
    const LayerState& layer = state.layer(l);
    EXPECT_EQ(layer.position[3], 3u);
    EXPECT_EQ(layer.born[3], 42);
    EXPECT_EQ(base::Retention(base::ElapsedTime(42, layer.last_reset[3], 0.01), layer.strength[3]),
              1.0);
  }
}

// I1: a reset one tick ago.
TEST(RetentionStateTest, OneTickAfterAResetRetentionHasFadedByOneTimeStep) {
  RetentionState state = Born(2);
  state.Observe(0, std::vector<float>{0.9f, 0.1f}, 1, 10);
  for (Slot slot = 0; slot < 2; ++slot) {
    const LayerState& layer = state.layer(0);
    EXPECT_DOUBLE_EQ(
        base::Retention(base::ElapsedTime(11, layer.last_reset[slot], 0.01), layer.strength[slot]),
        std::exp(-0.01 / layer.strength[slot]));
  }
}

// Spec 6.1.
TEST(RetentionStateTest, AOneTokenPromptLooksAtItselfAndIsStrengthenedByOne) {
  RetentionState state = Born(1);
  state.Observe(0, std::vector<float>{1}, 1, 0);
  EXPECT_EQ(state.layer(0).strength[0], 6.0f);
  EXPECT_EQ(state.layer(0).last_reset[0], 0);
}

TEST(RetentionStateTest, ResetsFromTheThresholdOnAndNotBelowIt) {
  RetentionState state = Born(3, {.reset_threshold = 0.01f});
  state.Observe(0, std::vector<float>{std::nextafter(0.01f, 0.0f), 0.01f, 0.9f}, 1, 5);
  EXPECT_THAT(state.layer(0).last_reset, ElementsAre(0, 5, 5));
}

TEST(RetentionStateTest, GainStrengthensButTheThresholdLooksAtTheMassItself) {
  RetentionState state = Born(2, {.reset_threshold = 0.01f});
  state.Observe(0, std::vector<float>{0.25f, 0.008f}, 4, 5);
  EXPECT_EQ(state.layer(0).strength[0], 6.0f);
  EXPECT_FLOAT_EQ(state.layer(0).strength[1], 5.032f);
  EXPECT_THAT(state.layer(0).last_reset, ElementsAre(5, 0));
}

TEST(RetentionStateTest, StrengthStopsAtTheCapAndStillResets) {
  RetentionState state = Born(1, {.strength_cap = 5.5f});
  for (Tick now = 1; now <= 3; ++now) state.Observe(0, std::vector<float>{1}, 1, now);
  EXPECT_EQ(state.layer(0).strength[0], 5.5f);
  EXPECT_EQ(state.layer(0).last_reset[0], 3);
}

TEST(RetentionStateTest, ARowSeenBeforeLaterNewbornsLeavesThemAlone) {
  RetentionState state = Born(4);
  state.Observe(0, std::vector<float>{0.5f, 0.5f}, 1, 1);
  EXPECT_THAT(state.layer(0).strength, ElementsAre(5.5f, 5.5f, 5, 5));
  EXPECT_THAT(state.layer(0).last_reset, ElementsAre(1, 1, 0, 0));
}

TEST(RetentionStateTest, ObservingOneLayerLeavesTheOthersAlone) {
  RetentionState state = Born(1, {}, 3);
  state.Observe(1, std::vector<float>{1}, 1, 1);
  EXPECT_EQ(state.layer(0).strength[0], 5);
  EXPECT_EQ(state.layer(1).strength[0], 6);
  EXPECT_EQ(state.layer(2).strength[0], 5);
}

// I2, even when a kernel hands in what is no probability.
TEST(RetentionStateTest, StrengthNeverFallsWhateverIsObserved) {
  RetentionState state = Born(3);
  state.Observe(0, std::vector<float>{-1, std::numeric_limits<float>::quiet_NaN(), 0}, 1, 1);
  EXPECT_THAT(state.layer(0).strength, ElementsAre(5, 5, 5));
  EXPECT_THAT(state.layer(0).last_reset, ElementsAre(0, 0, 0));
}

// I3, I4.
TEST(RetentionStateTest, EachRowAddsOneInAllAndResetsAtMostOneOverTheThreshold) {
  for (const float threshold : {0.01f, 0.05f, 0.3f, 1.0f}) {
    RetentionState state = Born(300, {.reset_threshold = threshold});
    double sum = SumOfStrength(state.layer(0));
    for (uint32_t row = 1; row <= 50; ++row) {
      state.Observe(0, AttentionRow(1, 0, row, Positions(300)), 1, static_cast<Tick>(row));
      const double now = SumOfStrength(state.layer(0));
      ASSERT_NEAR(now - sum, 1, 1e-4);
      sum = now;
      const auto& resets = state.layer(0).last_reset;
      ASSERT_LE(std::count(resets.begin(), resets.end(), static_cast<Tick>(row)),
                std::floor(1 / threshold));
    }
  }
  // The bound is reached: a hundred tokens with a hundredth each.
  RetentionState state = Born(100, {.reset_threshold = 0.01f});
  state.Observe(0, std::vector<float>(100, 0.01f), 1, 1);
  EXPECT_THAT(state.layer(0).last_reset, testing::Each(1));
}

// The prompt's rows as a kernel sums them up: [first, last), each row seeing the tokens up to its
// own.
struct RowSums {
  std::vector<float> mass;
  std::vector<Tick> last_reset;
};
RowSums SumRows(Position first, Position last, float threshold, Tick prompt_ticks) {
  RowSums sums{std::vector<float>(last), std::vector<Tick>(last, -1)};
  for (Position row = first; row < last; ++row) {
    const std::vector<float> mass = AttentionRow(3, 0, row, Positions(row + 1));
    for (Position p = 0; p <= row; ++p) {
      sums.mass[p] += mass[p];
      if (mass[p] >= threshold) sums.last_reset[p] = static_cast<Tick>(row) * prompt_ticks;
    }
  }
  return sums;
}

// I21: row by row, in chunks of any size, or all at once.
TEST(RetentionStateTest, ManyRowsAtOnceEqualRowByRowInChunksOfAnySize) {
  constexpr Position kPrompt = 150;
  for (const UpdateRule rule :
       {UpdateRule{}, UpdateRule{.reset_threshold = 0.1f, .strength_cap = 5.4f}}) {
    for (const Tick prompt_ticks : {0, 1, 3}) {
      RetentionState by_row(1, rule);
      for (Position row = 0; row < kPrompt; ++row) {
        const Tick now = static_cast<Tick>(row) * prompt_ticks;
        by_row.Append(row, now);
        by_row.Observe(0, AttentionRow(3, 0, row, Positions(row + 1)), 1, now);
      }
      for (const Position chunk : {1u, 7u, 64u, kPrompt}) {
        RetentionState chunked(1, rule);
        for (Position first = 0; first < kPrompt; first += chunk) {
          const Position last = std::min(first + chunk, kPrompt);
          for (Position p = first; p < last; ++p)
            chunked.Append(p, static_cast<Tick>(p) * prompt_ticks);
          const RowSums sums = SumRows(first, last, rule.reset_threshold, prompt_ticks);
          chunked.ObserveRows(0, sums.mass, sums.last_reset);
        }
        ASSERT_EQ(chunked.layer(0).last_reset, by_row.layer(0).last_reset);
        for (Position p = 0; p < kPrompt; ++p) {
          ASSERT_NEAR(chunked.layer(0).strength[p], by_row.layer(0).strength[p], 2e-5) << p;
        }
      }
    }
  }
}

TEST(RetentionStateTest, ManyRowsAtOnceMayCoverFewerTokensThanLive) {
  RetentionState state = Born(3);
  state.ObserveRows(0, std::vector<float>{0.5f, 2}, std::vector<Tick>{-1, 4});
  EXPECT_THAT(state.layer(0).strength, ElementsAre(5.5f, 7, 5));
  EXPECT_THAT(state.layer(0).last_reset, ElementsAre(0, 4, 0));
}

TEST(RetentionStateTest, RemovalKeepsEverySurvivorsNumbersTogether) {
  std::mt19937 random(5);
  RetentionState state(2, {});
  for (Position p = 0; p < 200; ++p) state.Append(p, static_cast<Tick>(p));
  std::vector<float> mass(200);
  for (Position p = 0; p < 200; ++p) mass[p] = static_cast<float>(p);  // strength tells who it is
  state.Observe(0, mass, 1, 300);
  while (state.layer(0).live() > 3) {
    std::vector<Slot> removed;
    for (Slot slot = 0; slot < state.layer(0).live(); ++slot) {
      if (random() % 4 == 0) removed.push_back(slot);
    }
    state.Remove(0, base::PlanRemoval(removed, state.layer(0).live()));
    const LayerState& layer = state.layer(0);
    for (Slot slot = 0; slot < layer.live(); ++slot) {
      ASSERT_EQ(layer.strength[slot], 5 + static_cast<float>(layer.position[slot]));
      ASSERT_EQ(layer.last_reset[slot], layer.position[slot] == 0 ? 0 : 300);
      ASSERT_EQ(layer.born[slot], static_cast<Tick>(layer.position[slot]));
    }
  }
  EXPECT_EQ(state.layer(1).live(), 200u) << "each layer has its own live set";
  EXPECT_EQ(state.max_live(), 200u);
}

// I16.
TEST(RetentionStateDeathTest, PositionsRiseOneByOneAlsoAfterRemovals) {
  RetentionState state = Born(3);
  state.Remove(0, base::PlanRemoval(std::vector<Slot>{2}, 3));
  EXPECT_DEATH(state.Append(2, 0), "broken invariant");
  EXPECT_DEATH(state.Append(4, 0), "broken invariant");
  state.Append(3, 0);
  EXPECT_THAT(state.layer(0).position, ElementsAre(0, 1, 3));
}

TEST(RetentionStateDeathTest, APlanForAnotherNumberOfSlotsIsABrokenInvariant) {
  RetentionState state = Born(3);
  EXPECT_DEATH(state.Remove(0, base::PlanRemoval(std::vector<Slot>{1}, 4)), "broken invariant");
  EXPECT_DEATH(state.Observe(0, std::vector<float>(4), 1, 0), "broken invariant");
}

}  // namespace
}  // namespace ebbinghaus::memory
