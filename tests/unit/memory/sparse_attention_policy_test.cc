// Closed formulas and single rules; what they do together is in evicting_equals_masking_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "server/memory/parameters.h"
#include "server/memory/policy.h"

namespace ebbinghaus::memory {
namespace {

using base::ForgetScope;
using base::MemoryParameters;
using base::Position;
using base::Slot;
using base::Tick;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// No protection but the newborn's.
MemoryParameters Bare() { return PresetParameters(Preset::kOriginal); }

// A policy and a state of `tokens` tokens, born at tick 0, that nobody has looked at.
struct Memory {
  Memory(const MemoryParameters& parameters, uint32_t layers, Position tokens)
      : policy(MakePolicy(base::GenerationMode::kSparseAttention, parameters, layers)),
        state(policy->NewState(layers)) {
    for (Position p = 0; p < tokens; ++p) state.Append(p, 0);
  }

  // Strengthens one token in one layer, without a reset (a mass below every threshold used here,
  // many times over).
  void Strengthen(uint32_t layer, Position position, float strength) {
    std::vector<float> mass(state.layer(layer).live());
    std::vector<Tick> no_reset(mass.size(), -1);
    for (size_t slot = 0; slot < mass.size(); ++slot) {
      if (state.layer(layer).position[slot] == position) mass[slot] = strength;
    }
    state.ObserveRows(layer, mass, no_reset);
  }

  std::vector<Position> Forget(Tick now) {
    last = policy->Forget(state, now);
    std::vector<Position> positions;
    for (const Forgotten& f : last.forgotten) positions.push_back(f.position);
    for (uint32_t l = 0; l < last.plans.size(); ++l) state.Remove(l, last.plans[l]);
    return positions;
  }

  std::vector<Position> Live(uint32_t layer) const {
    std::vector<Position> live = state.layer(layer).position;
    std::sort(live.begin(), live.end());
    return live;
  }

  std::unique_ptr<const MemoryPolicy> policy;
  RetentionState state;
  ForgetDecision last;
};

std::vector<Position> Range(Position begin, Position end) {
  std::vector<Position> range(end - begin);
  std::iota(range.begin(), range.end(), begin);
  return range;
}

// I6: 5 * ln(1000) / 0.01 = 3453.9.
TEST(SparseAttentionPolicyTest, AtTheDefaultsAnIdleTokenIsForgottenAfter3454TicksAndNotBefore) {
  for (const Preset preset : {Preset::kOriginal, Preset::kDefault}) {
    Memory memory(PresetParameters(preset), 4, 100);
    for (Tick now = 1; now < 3454; ++now) ASSERT_THAT(memory.Forget(now), IsEmpty()) << now;
    EXPECT_THAT(memory.Forget(3454), testing::Contains(10u));
    EXPECT_EQ(memory.last.forgotten[0].age_ticks, 3454);
    EXPECT_NEAR(memory.last.forgotten[0].retention, std::exp(-34.54 / 5), 1e-12);
    EXPECT_EQ(memory.last.forgotten[0].votes, 4u);
  }
}

TEST(SparseAttentionPolicyTest, PresetsForgetAnIdleTokenWhenTheirNumbersSay) {
  for (const auto& [preset, tick] :
       {std::pair{Preset::kChat, 691}, std::pair{Preset::kTight, 198}}) {
    Memory memory(PresetParameters(preset), 3, 100);
    EXPECT_THAT(memory.Forget(tick - 1), IsEmpty());
    EXPECT_THAT(memory.Forget(tick), testing::SizeIs(3 * (100 - 4 - 64)));
  }
}

TEST(SparseAttentionPolicyTest, ATokenExactlyAtTheThresholdStays) {
  MemoryParameters p = Bare();
  p.forget_threshold = std::exp(-1.0);
  p.time_step = 0.5;
  ASSERT_EQ(-std::log(p.forget_threshold), 1.0);
  Memory memory(p, 2, 3);
  EXPECT_THAT(memory.Forget(10), IsEmpty()) << "t = 5 = S";
  EXPECT_THAT(memory.Forget(11), ElementsAre(0, 1, 2));
}

TEST(SparseAttentionPolicyTest, OneMassExpiryIsOnePlanPerLayer) {
  Memory memory(Bare(), 3, 1000);
  memory.Strengthen(0, 500, 5);
  memory.Strengthen(1, 500, 5);
  EXPECT_EQ(memory.Forget(4000).size(), 999u);
  ASSERT_EQ(memory.last.plans.size(), 3u);
  for (const base::SlotRemovalPlan& plan : memory.last.plans) {
    EXPECT_EQ(plan.live_after, 1u);
    EXPECT_EQ(plan.moves.size(), 1u);
  }
  EXPECT_THAT(memory.Live(2), ElementsAre(500));
}

// I19: votes needed of L layers at ratio one half.
TEST(SparseAttentionPolicyTest, HalfOfAnOddNumberOfLayersIsRoundedUpAndOneLayerDecidesAlone) {
  for (const auto& [layers, needed] :
       {std::pair{1u, 1u}, {2u, 1u}, {3u, 2u}, {4u, 2u}, {5u, 3u}, {7u, 4u}, {30u, 15u}}) {
    for (uint32_t voting = 0; voting <= layers; ++voting) {
      Memory memory(Bare(), layers, 2);
      for (uint32_t l = voting; l < layers; ++l) memory.Strengthen(l, 0, 100);
      memory.Strengthen(0, 1, 100);  // the other token stays in any case
      for (uint32_t l = 1; l < layers; ++l) memory.Strengthen(l, 1, 100);
      if (voting >= needed) {
        EXPECT_THAT(memory.Forget(4000), ElementsAre(0)) << voting << " of " << layers;
        EXPECT_EQ(memory.last.forgotten[0].votes, voting);
        EXPECT_EQ(memory.last.forgotten[0].layer, std::nullopt);
      } else {
        EXPECT_THAT(memory.Forget(4000), IsEmpty()) << voting << " of " << layers;
      }
    }
  }
}

TEST(SparseAttentionPolicyTest, TheSmallestRatioStillNeedsOneVote) {
  MemoryParameters p = Bare();
  p.vote_ratio = 1e-12;
  Memory memory(p, 3, 1);
  for (uint32_t l = 0; l < 3; ++l) memory.Strengthen(l, 0, 100);
  EXPECT_THAT(memory.Forget(4000), IsEmpty());
}

TEST(SparseAttentionPolicyTest, WithVotesOfTheFirstHalfTheOtherLayersAreNotAsked) {
  MemoryParameters p = Bare();
  p.vote_layers = base::VoteLayers::kFirstHalf;
  p.vote_ratio = 1;
  Memory memory(p, 5, 2);  // three layers vote
  for (uint32_t l = 3; l < 5; ++l) memory.Strengthen(l, 0, 100);
  memory.Strengthen(2, 1, 100);
  EXPECT_THAT(memory.Forget(4000), ElementsAre(0));
  EXPECT_EQ(memory.last.forgotten[0].votes, 3u);
  EXPECT_THAT(memory.Live(4), ElementsAre(1)) << "but it is gone from all";
}

TEST(SparseAttentionPolicyTest, PerLayerALayerForgetsForItselfAndSaysWhich) {
  MemoryParameters p = Bare();
  p.scope = ForgetScope::kPerLayer;
  Memory memory(p, 3, 2);
  memory.Strengthen(0, 0, 100);
  memory.Strengthen(2, 1, 100);
  // Layer 0 loses token 1, layer 1 both, layer 2 token 0; the newborn alone satisfies the minimum
  // of one.
  EXPECT_THAT(memory.Forget(4000), ElementsAre(1, 0, 1, 0));
  std::vector<std::optional<uint32_t>> layers;
  for (const Forgotten& f : memory.last.forgotten) {
    layers.push_back(f.layer);
    EXPECT_EQ(f.votes, 1u);
    EXPECT_NEAR(f.retention, std::exp(-40.0 / 5), 1e-9);
  }
  EXPECT_THAT(layers, ElementsAre(0, 1, 1, 2));
  EXPECT_THAT(memory.Live(0), ElementsAre(0));
  EXPECT_THAT(memory.Live(1), IsEmpty());
  EXPECT_THAT(memory.Live(2), ElementsAre(1));
}

TEST(SparseAttentionPolicyTest, PerLayerAnEventOfTheBudgetAloneHasNoVote) {
  MemoryParameters p = Bare();
  p.scope = ForgetScope::kPerLayer;
  p.max_live_tokens = 8;
  Memory memory(p, 2, 9);
  for (Position token = 0; token < 9; ++token) memory.Strengthen(1, token, 100);
  memory.Forget(4000);  // age takes all of layer 0, the budget two of layer 1
  for (const Forgotten& f : memory.last.forgotten) EXPECT_EQ(f.votes, *f.layer == 0 ? 1u : 0u);
  EXPECT_THAT(memory.Live(0), IsEmpty());
  EXPECT_EQ(memory.Live(1).size(), 7u);
}

TEST(SparseAttentionPolicyTest, ALayerThatLosesNothingGetsAnEmptyPlanOfItsOwnSize) {
  MemoryParameters p = Bare();
  p.scope = ForgetScope::kPerLayer;
  Memory memory(p, 2, 3);
  for (Position token = 0; token < 3; ++token) memory.Strengthen(1, token, 100);
  memory.Forget(4000);
  ASSERT_EQ(memory.last.plans.size(), 2u);
  EXPECT_TRUE(memory.last.plans[1].empty());
  EXPECT_EQ(memory.last.plans[1].live_before, 3u);
}

// I15.
TEST(SparseAttentionPolicyTest, SinksTheRecentWindowAndPinsStay) {
  MemoryParameters p = Bare();
  p.sink_tokens = 3;
  p.recent_tokens = 5;
  p.pinned = {{20, 24}, {8, 12}, {10, 15}, {21, 22}};  // overlapping, and one in another
  for (const ForgetScope scope : {ForgetScope::kConsensus, ForgetScope::kPerLayer}) {
    p.scope = scope;
    Memory memory(p, 1, 40);
    memory.Forget(4000);
    EXPECT_THAT(memory.Live(0),
                ElementsAre(0, 1, 2, 8, 9, 10, 11, 12, 13, 14, 20, 21, 22, 23, 35, 36, 37, 38, 39));
    // The window moves on with every newborn, and what drops out of it is forgotten at once.
    memory.state.Append(40, 4000);
    EXPECT_THAT(memory.Forget(4001), ElementsAre(35));
    memory.state.Append(41, 4001);
    EXPECT_THAT(memory.Forget(4002), ElementsAre(36));
  }
}

TEST(SparseAttentionPolicyTest, AWindowOrSinksLargerThanTheSequenceKeepEverything) {
  for (const bool recent : {true, false}) {
    MemoryParameters p = Bare();
    (recent ? p.recent_tokens : p.sink_tokens) = std::numeric_limits<uint32_t>::max();
    Memory memory(p, 2, 10);
    EXPECT_THAT(memory.Forget(1'000'000), IsEmpty());
  }
}

// The newborn is one of those that stay.
TEST(SparseAttentionPolicyTest, TheMinimumHoldsWithTheNewbornCounted) {
  MemoryParameters p = Bare();
  p.min_live_tokens = 4;
  Memory memory(p, 1, 10);
  EXPECT_THAT(memory.Forget(4000), ElementsAre(0, 1, 2, 3, 4, 5, 6));
  memory.state.Append(10, 4000);
  EXPECT_EQ(memory.Live(0).size(), 4u);
  EXPECT_THAT(memory.Forget(4001), ElementsAre(7)) << "one may go for each that is born";
}

TEST(SparseAttentionPolicyTest, ProtectedTokensCountTowardsTheMinimum) {
  MemoryParameters p = Bare();
  p.sink_tokens = 3;
  p.min_live_tokens = 4;
  Memory memory(p, 1, 10);
  EXPECT_THAT(memory.Forget(4000), ElementsAre(3, 4, 5, 6, 7, 8, 9));
}

TEST(SparseAttentionPolicyTest, AMinimumAboveTheLiveTokensForgetsNothing) {
  MemoryParameters p = Bare();
  p.min_live_tokens = 11;
  Memory memory(p, 1, 10);
  EXPECT_THAT(memory.Forget(4000), IsEmpty());
  memory.state.Append(10, 4000);
  EXPECT_THAT(memory.Forget(4001), ElementsAre(0));
}

TEST(SparseAttentionPolicyTest, WhenNotAllCanGoTheEarliestExpiryGoesFirstThenTheLowestPosition) {
  MemoryParameters p = Bare();
  p.min_live_tokens = 7;
  Memory memory(p, 1, 10);
  memory.Strengthen(0, 0, 0.5);
  memory.Strengthen(0, 1, 0.25);
  for (Position token : {2, 3, 4, 5, 6, 7, 8, 9}) memory.Strengthen(0, token, token < 5 ? 1 : 0.5);
  EXPECT_THAT(memory.Forget(1'000'000),
              ElementsAre(0, 1, 5, 6));  // 1, then 0, 5, 6 of the equal ones
}

TEST(SparseAttentionPolicyTest, TheBudgetForgetsTheSmallestConsensusExpiryBeforeTheNewbornComes) {
  MemoryParameters p = Bare();
  p.max_live_tokens = 8;
  Memory memory(p, 3, 10);  // two of three layers decide
  const auto strengthen_all = [&](Position token, float strength) {
    for (uint32_t l = 0; l < 3; ++l) memory.Strengthen(l, token, strength);
  };
  for (Position token = 0; token < 10; ++token) strengthen_all(token, 1);
  memory.Strengthen(0, 4, 50);  // one layer's liking does not save it from the other two...
  strengthen_all(4, 0.01f);
  memory.Strengthen(1, 7, 50);  // ...and two layers' liking makes the second smallest large
  memory.Strengthen(2, 7, 50);
  for (Position token : {0, 1, 2, 3, 5, 6, 8, 9})
    strengthen_all(token, 0.1f + 0.1f * static_cast<float>(token));
  EXPECT_THAT(memory.Forget(1), ElementsAre(0, 1, 4));
  EXPECT_EQ(memory.last.forgotten[2].votes, 0u) << "no layer wanted it gone yet";
  memory.state.Append(10, 1);
  EXPECT_EQ(memory.Live(0).size(), 8u);
  EXPECT_THAT(memory.Forget(2), ElementsAre(10)) << "the newest is the weakest now";
}

TEST(SparseAttentionPolicyTest, TheBudgetTakesTheLowestPositionOfEqualOnes) {
  MemoryParameters p = Bare();
  p.max_live_tokens = 8;
  p.sink_tokens = 2;
  Memory memory(p, 2, 10);
  EXPECT_THAT(memory.Forget(1), ElementsAre(2, 3, 4));
}

TEST(SparseAttentionPolicyTest, TheBudgetOrdersByStrengthWhenTimeStandsStill) {
  MemoryParameters p = Bare();
  p.time_step = 0;
  p.max_live_tokens = 8;
  Memory memory(p, 1, 8);
  for (Position token = 0; token < 8; ++token)
    memory.Strengthen(0, token, static_cast<float>(token + 3) / 10);
  memory.Strengthen(0, 0, 3);
  memory.state.Observe(0, std::vector<float>{0, 0.02f, 0, 0, 0, 0, 0, 0}, 1,
                       900);  // a late reset does not help
  EXPECT_THAT(memory.Forget(1000), ElementsAre(1));
  memory.state.Append(8, 1000);
  EXPECT_THAT(memory.Forget(std::numeric_limits<Tick>::max()), ElementsAre(8));
}

TEST(SparseAttentionPolicyTest, WithoutTimeAndBudgetNothingIsEverForgotten) {
  MemoryParameters p = Bare();
  p.time_step = 0;
  Memory memory(p, 2, 50);
  EXPECT_THAT(memory.Forget(std::numeric_limits<Tick>::max()), IsEmpty());
}

TEST(SparseAttentionPolicyTest, ExpiryActsFirstAndTheBudgetOnlyOnWhatIsStillTooMuch) {
  MemoryParameters p = Bare();
  p.max_live_tokens = 9;
  Memory memory(p, 1, 10);
  for (Position token = 0; token < 10; ++token)
    memory.Strengthen(0, token, token < 4 ? 0 : 10 + static_cast<float>(token));
  EXPECT_THAT(memory.Forget(4000), ElementsAre(0, 1, 2, 3))
      << "expiry alone, though two would do for the budget";
  for (Position token = 10; token < 13; ++token) memory.state.Append(token, 4000);
  EXPECT_THAT(memory.Forget(4001), ElementsAre(10)) << "nothing has expired, one is too many";
}

TEST(SparseAttentionPolicyTest, ALongPromptIsCutDownToTheBudgetAtTheFirstStep) {
  MemoryParameters p = PresetParameters(Preset::kTight);
  p.max_live_tokens = 256;
  Memory memory(p, 2, 5000);
  memory.Forget(1);
  for (uint32_t l = 0; l < 2; ++l) EXPECT_EQ(memory.state.layer(l).live(), 255u);
  std::vector<Position> kept = Range(0, 4);
  for (Position token : Range(5000 - 251, 5000)) kept.push_back(token);
  EXPECT_EQ(memory.Live(0), kept);
}

TEST(SparseAttentionPolicyTest, ExtremeThresholdsStillOrderTheBudget) {
  for (const double threshold : {1e-320, 1e-300, 1 - 1e-16}) {
    MemoryParameters p = Bare();
    p.forget_threshold = threshold;
    p.time_step = 1e-300;
    p.max_live_tokens = 3;
    Memory memory(p, 1, 4);
    memory.Strengthen(0, 0, 1);
    memory.Strengthen(0, 2, 1);
    EXPECT_THAT(memory.Forget(1), ElementsAre(1, 3)) << threshold;
  }
}

TEST(SparseAttentionPolicyTest, ADecisionThatIsNotCarriedOutIsMadeAgain) {
  Memory memory(Bare(), 2, 20);
  for (int repeat = 0; repeat < 3; ++repeat) {
    EXPECT_EQ(memory.policy->Forget(memory.state, 3500 + repeat).forgotten.size(), 20u);
  }
}

TEST(SparseAttentionPolicyTest, AStateShownToAnotherPolicyIsJudgedByThatOnesParameters) {
  Memory memory(Bare(), 2, 20);
  EXPECT_THAT(memory.policy->Forget(memory.state, 100).forgotten, IsEmpty());
  MemoryParameters hasty = Bare();
  hasty.forget_threshold = 0.5;
  const auto other = MakePolicy(base::GenerationMode::kSparseAttention, hasty, 2);
  EXPECT_EQ(other->Forget(memory.state, 400).forgotten.size(), 20u);
  EXPECT_THAT(memory.policy->Forget(memory.state, 400).forgotten, IsEmpty());
}

TEST(SparseAttentionPolicyTest, AgeCountsFromBirthAlsoAfterAReset) {
  for (const ForgetScope scope : {ForgetScope::kConsensus, ForgetScope::kPerLayer}) {
    MemoryParameters p = Bare();
    p.scope = scope;
    Memory memory(p, 1, 1);
    memory.state.Append(1, 30);
    memory.state.Observe(0, std::vector<float>{0.5f, 0.5f}, 1, 100);
    EXPECT_THAT(memory.Forget(5000), ElementsAre(0, 1));
    EXPECT_EQ(memory.last.forgotten[0].age_ticks, 5000);
    EXPECT_EQ(memory.last.forgotten[1].age_ticks, 4970);
    EXPECT_NEAR(memory.last.forgotten[1].retention, std::exp(-49.0 / 5.5), 1e-12);
  }
}

TEST(SparseAttentionPolicyTest, ACopiedStateForgetsLikeItsOriginal) {
  Memory memory(Bare(), 2, 50);
  memory.Strengthen(0, 7, 10);
  memory.Strengthen(1, 7, 10);
  memory.Forget(100);
  RetentionState copy = memory.state;
  const ForgetDecision decision = memory.policy->Forget(copy, 4000);
  EXPECT_EQ(memory.Forget(4000).size(), 49u);
  EXPECT_EQ(decision.forgotten.size(), 49u);
}

TEST(SparseAttentionPolicyDeathTest, ConsensusOverLayersThatHoldDifferentTokensIsABrokenInvariant) {
  Memory memory(Bare(), 2, 3);
  memory.state.Remove(0, base::PlanRemoval(std::vector<Slot>{1}, 3));
  EXPECT_DEATH(memory.Forget(1), "broken invariant");
  memory.state.Remove(1, base::PlanRemoval(std::vector<Slot>{0}, 3));
  EXPECT_DEATH(memory.Forget(4000), "broken invariant");
}

}  // namespace
}  // namespace ebbinghaus::memory
