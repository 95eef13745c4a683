#include "server/base/removal_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>
#include <vector>

namespace ebbinghaus::base {
namespace {

using ::testing::UnorderedElementsAreArray;

std::vector<Slot> Iota(Slot count) {
  std::vector<Slot> slots(count);
  std::iota(slots.begin(), slots.end(), 0);
  return slots;
}

std::vector<Slot> RandomSubset(Slot live, double share, std::mt19937& random) {
  std::vector<Slot> chosen;
  std::bernoulli_distribution in(share);
  for (Slot slot = 0; slot < live; ++slot) {
    if (in(random)) chosen.push_back(slot);
  }
  return chosen;
}

// Everything a plan promises, for one removal.
void ExpectRightPlan(const std::vector<Slot>& removed, Slot live) {
  const SlotRemovalPlan plan = PlanRemoval(removed, live);
  EXPECT_EQ(plan.live_before, live);
  ASSERT_EQ(plan.live_after, live - removed.size());
  EXPECT_EQ(plan.empty(), removed.empty());

  // One copy per hole below live_after, and none else.
  std::vector<Slot> holes, targets;
  for (Slot slot : removed) {
    if (slot < plan.live_after) holes.push_back(slot);
  }
  std::set<Slot> sources;
  for (const SlotMove& move : plan.moves) {
    targets.push_back(move.to);
    EXPECT_TRUE(sources.insert(move.from).second) << "copied twice";
    EXPECT_GE(move.from, plan.live_after);
    EXPECT_LT(move.from, live);
  }
  EXPECT_EQ(targets, holes);

  // The survivors, all of them, each once; those below live_after stay where they are.
  std::vector<Slot> values = Iota(live);
  ApplyRemoval(plan, values);
  std::vector<Slot> survivors;
  const std::vector<Slot> all = Iota(live);
  std::set_difference(all.begin(), all.end(), removed.begin(), removed.end(),
                      std::back_inserter(survivors));
  EXPECT_THAT(values, UnorderedElementsAreArray(survivors));
  for (Slot slot = 0; slot < plan.live_after; ++slot) {
    if (std::binary_search(removed.begin(), removed.end(), slot)) continue;
    EXPECT_EQ(values[slot], slot);
  }
}

TEST(RemovalPlanTest, EveryRemovalFromUpToEightSlotsKeepsExactlyTheSurvivors) {
  for (Slot live = 0; live <= 8; ++live) {
    for (unsigned mask = 0; mask < 1u << live; ++mask) {
      std::vector<Slot> removed;
      for (Slot slot = 0; slot < live; ++slot) {
        if (mask >> slot & 1) removed.push_back(slot);
      }
      ExpectRightPlan(removed, live);
    }
  }
}

TEST(RemovalPlanTest, RandomRemovalsFromManySlotsKeepExactlyTheSurvivors) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 300; ++trial) {
    const Slot live = std::uniform_int_distribution<Slot>(1, 400)(random);
    ExpectRightPlan(RandomSubset(live, std::uniform_real_distribution<>(0, 1)(random), random),
                    live);
  }
}

TEST(RemovalPlanTest, TheLastSlotFillsTheOnlyHole) {
  const std::vector<Slot> removed = {2};
  const SlotRemovalPlan plan = PlanRemoval(removed, 10);
  ASSERT_EQ(plan.moves.size(), 1u);
  EXPECT_EQ(plan.moves[0].from, 9u);
  EXPECT_EQ(plan.moves[0].to, 2u);
}

TEST(RemovalPlanTest, RemovingFromTheEndCopiesNothing) {
  const std::vector<Slot> removed = {7, 8, 9};
  EXPECT_TRUE(PlanRemoval(removed, 10).moves.empty());
}

TEST(RemovalPlanTest, MovesMayRunInAnyOrder) {
  std::mt19937 random(2);
  for (int trial = 0; trial < 50; ++trial) {
    SlotRemovalPlan plan = PlanRemoval(RandomSubset(100, 0.4, random), 100);
    std::vector<Slot> forward = Iota(100), shuffled = Iota(100);
    ApplyRemoval(plan, forward);
    std::shuffle(plan.moves.begin(), plan.moves.end(), random);
    ApplyRemoval(plan, shuffled);
    EXPECT_EQ(forward, shuffled);
  }
}

TEST(RemovalPlanTest, OnePlanKeepsParallelArraysTogether) {
  std::mt19937 random(3);
  std::vector<Slot> ids = Iota(200);
  std::vector<float> values(ids.begin(), ids.end());
  while (ids.size() > 5) {
    const auto live = static_cast<Slot>(ids.size());
    const SlotRemovalPlan plan = PlanRemoval(RandomSubset(live, 0.2, random), live);
    ApplyRemoval(plan, ids);
    ApplyRemoval(plan, values);
    for (size_t i = 0; i < ids.size(); ++i) ASSERT_EQ(values[i], static_cast<float>(ids[i]));
  }
}

TEST(RemovalPlanDeathTest, SlotsOutOfOrderOrOutOfRangeAreBrokenInvariants) {
  const std::vector<Slot> falling = {3, 2}, twice = {3, 3}, outside = {4};
  EXPECT_DEATH(PlanRemoval(falling, 10), "broken invariant");
  EXPECT_DEATH(PlanRemoval(twice, 10), "broken invariant");
  EXPECT_DEATH(PlanRemoval(outside, 4), "broken invariant");
}

}  // namespace
}  // namespace ebbinghaus::base
