#include "server/memory/policy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "server/memory/layer_fraction.h"
#include "server/memory/parameters.h"

namespace ebbinghaus::memory {
namespace {

using base::GenerationMode;
using base::MemoryParameters;
using base::PromptObservation;
using Form = base::AttentionWeighting::Form;

constexpr GenerationMode kMemoryModes[] = {GenerationMode::kSoftDelete,
                                           GenerationMode::kSparseAttention};

TEST(LayerFractionTest, DecimalFractionsOfLayersAreExact) {
  EXPECT_EQ(FloorFraction(0.29, 100), 29u);  // 28.999999999999996 in double
  EXPECT_EQ(FloorFraction(0.5, 3), 1u);
  EXPECT_EQ(FloorFraction(0, 30), 0u);
  EXPECT_EQ(FloorFraction(1, 30), 30u);
  EXPECT_EQ(CeilFraction(0.07, 100), 7u);  // 7.000000000000001 in double
  EXPECT_EQ(CeilFraction(0.5, 3), 2u);
  EXPECT_EQ(CeilFraction(1e-12, 30), 0u);
  for (uint32_t percent = 0; percent <= 100; ++percent) {
    for (uint32_t layers = 1; layers <= 100; ++layers) {
      const uint64_t hundredths = uint64_t{percent} * layers;
      ASSERT_EQ(FloorFraction(percent / 100.0, layers), hundredths / 100)
          << percent << " % of " << layers;
      ASSERT_EQ(CeilFraction(percent / 100.0, layers), (hundredths + 99) / 100)
          << percent << " % of " << layers;
    }
  }
}

TEST(LayerFractionTest, TheFirstHalfOfAnOddNumberIncludesTheMiddle) {
  EXPECT_EQ(FirstHalf(1), 1u);
  EXPECT_EQ(FirstHalf(2), 1u);
  EXPECT_EQ(FirstHalf(7), 4u);
  EXPECT_EQ(FirstHalf(std::numeric_limits<uint32_t>::max()), 1u << 31);
}

TEST(BaselinePolicyTest, KeepsObservesWeighsAndForgetsNothing) {
  const auto policy = MakePolicy(GenerationMode::kBaseline, {}, 4);
  EXPECT_FALSE(policy->keeps_state());
  EXPECT_EQ(policy->FirstObservedRow(100), 100u);
  EXPECT_EQ(policy->ObservationGain(1), 0);
  EXPECT_EQ(policy->prompt_ticks(), 0);
  EXPECT_EQ(policy->MostLiveTokens(10, 110), 110u);
  for (uint32_t l = 0; l < 4; ++l) EXPECT_EQ(policy->Weighting(l).form, Form::kNone);
  EXPECT_TRUE(policy->Forget(policy->NewState(4), 1'000'000).plans.empty());
}

TEST(FadingPolicyTest, BothMemoryModesBearTokensWithTheInitialStrength) {
  for (const GenerationMode mode : kMemoryModes) {
    MemoryParameters p;
    p.initial_strength = 2.5;
    RetentionState state = MakePolicy(mode, p, 3)->NewState(3);
    EXPECT_EQ(state.layers(), 3u);
    state.Append(0, 0);
    EXPECT_EQ(state.layer(2).strength[0], 2.5f);
  }
}

TEST(FadingPolicyTest, NumbersTooSmallOrTooLargeForFloatStayUsable) {
  MemoryParameters p;
  p.initial_strength = p.reset_threshold = 1e-300;
  p.strength_cap = 1e300;
  RetentionState state = MakePolicy(GenerationMode::kSoftDelete, p, 1)->NewState(1);
  state.Append(0, 0);
  EXPECT_GT(state.layer(0).strength[0], 0);
  state.Observe(0, std::vector<float>{0}, 1, 5);
  EXPECT_EQ(state.layer(0).last_reset[0], 0) << "nobody looked, nothing is reset";
  state.Observe(0, std::vector<float>{0.5f}, 1, 6);
  EXPECT_EQ(state.layer(0).strength[0], 0.5f);
}

TEST(FadingPolicyTest, ThePromptRowsThatCountAreTheLastAWindowOrAll) {
  for (const GenerationMode mode : kMemoryModes) {
    MemoryParameters p;
    EXPECT_EQ(MakePolicy(mode, p, 1)->FirstObservedRow(100), 99u);
    EXPECT_EQ(MakePolicy(mode, p, 1)->FirstObservedRow(1), 0u);
    p.prompt_observation = PromptObservation::kWindow;
    p.prompt_window_tokens = 30;
    EXPECT_EQ(MakePolicy(mode, p, 1)->FirstObservedRow(100), 70u);
    EXPECT_EQ(MakePolicy(mode, p, 1)->FirstObservedRow(20), 0u);
    p.prompt_observation = PromptObservation::kAll;
    EXPECT_EQ(MakePolicy(mode, p, 1)->FirstObservedRow(100), 0u);
  }
}

TEST(FadingPolicyTest, AnIntervalObservesEveryKthStepWithKTimesTheMass) {
  MemoryParameters p;
  for (uint32_t step = 1; step <= 5; ++step) {
    EXPECT_EQ(MakePolicy(GenerationMode::kSoftDelete, p, 1)->ObservationGain(step), 1);
  }
  p.observe_interval = 3;
  const auto policy = MakePolicy(GenerationMode::kSparseAttention, p, 1);
  EXPECT_EQ(policy->ObservationGain(1), 0);
  EXPECT_EQ(policy->ObservationGain(2), 0);
  EXPECT_EQ(policy->ObservationGain(3), 3);
  EXPECT_EQ(policy->ObservationGain(4), 0);
  EXPECT_EQ(policy->ObservationGain(6), 3);
}

TEST(FadingPolicyTest, PromptTicksAreThoseOfTheParameters) {
  MemoryParameters p;
  EXPECT_EQ(MakePolicy(GenerationMode::kSoftDelete, p, 1)->prompt_ticks(), 0);
  p.prompt_ticks = 7;
  EXPECT_EQ(MakePolicy(GenerationMode::kSoftDelete, p, 1)->prompt_ticks(), 7);
}

// I14.
TEST(SoftDeletePolicyTest, WeighsTheLayersBelowTheRatioAndNoOthers) {
  for (uint32_t layers = 1; layers <= 9; ++layers) {
    for (const double ratio : {0.0, 0.3, 0.5, 0.99, 1.0}) {
      MemoryParameters p;
      p.soft_layer_ratio = ratio;
      const auto policy = MakePolicy(GenerationMode::kSoftDelete, p, layers);
      for (uint32_t l = 0; l < layers; ++l) {
        const bool fades = l < static_cast<uint32_t>(std::floor(ratio * layers + 1e-9));
        EXPECT_EQ(policy->Weighting(l).form, fades ? Form::kLogBias : Form::kNone)
            << l << " of " << layers;
      }
    }
  }
}

TEST(SoftDeletePolicyTest, HandsItsParametersToTheAttention) {
  MemoryParameters p = PresetParameters(Preset::kOriginal);
  p.soft_floor = 0.6;
  p.soft_ceiling = 0.9;
  p.time_step = 0.02;
  const base::AttentionWeighting weighting =
      MakePolicy(GenerationMode::kSoftDelete, p, 2)->Weighting(0);
  EXPECT_EQ(weighting.form, Form::kKvScale);
  EXPECT_EQ(weighting.time_step, 0.02);
  EXPECT_EQ(weighting.floor, 0.6);
  EXPECT_EQ(weighting.ceiling, 0.9);
}

TEST(SoftDeletePolicyTest, ForgetsNothingHoweverLongItIsIdle) {
  const auto policy = MakePolicy(GenerationMode::kSoftDelete, {}, 2);
  RetentionState state = policy->NewState(2);
  state.Append(0, 0);
  EXPECT_TRUE(policy->Forget(state, std::numeric_limits<base::Tick>::max()).plans.empty());
  EXPECT_EQ(policy->MostLiveTokens(10, 110), 110u);
}

// I11, as far as memory alone can show it: attention is not weighed at all.
TEST(SoftDeletePolicyTest, WhereNothingCanFadeAttentionIsPlain) {
  MemoryParameters p;
  p.time_step = 0;
  EXPECT_EQ(MakePolicy(GenerationMode::kSoftDelete, p, 4)->Weighting(0).form, Form::kNone);
  p = {};
  p.soft_floor = 1;
  EXPECT_EQ(MakePolicy(GenerationMode::kSoftDelete, p, 4)->Weighting(0).form, Form::kNone);
  p = {};
  p.time_step = 0;
  p.soft_ceiling = 0.9;  // a constant weight below 1 is not plain: it shrinks logits under KV_SCALE
  EXPECT_EQ(MakePolicy(GenerationMode::kSoftDelete, p, 4)->Weighting(0).form, Form::kLogBias);
}

TEST(SparseAttentionPolicyTest, NeverWeighsAttention) {
  const auto policy = MakePolicy(GenerationMode::kSparseAttention, {}, 4);
  for (uint32_t l = 0; l < 4; ++l) EXPECT_EQ(policy->Weighting(l).form, Form::kNone);
}

TEST(SparseAttentionPolicyTest, HoldsAtMostTheLargerOfPromptAndBudget) {
  MemoryParameters p;
  EXPECT_EQ(MakePolicy(GenerationMode::kSparseAttention, p, 1)->MostLiveTokens(100, 1000), 1000u);
  p.max_live_tokens = 300;
  const auto policy = MakePolicy(GenerationMode::kSparseAttention, p, 1);
  EXPECT_EQ(policy->MostLiveTokens(100, 1000), 300u);
  EXPECT_EQ(policy->MostLiveTokens(700, 1000), 700u);
  EXPECT_EQ(policy->MostLiveTokens(100, 200), 200u);
}

}  // namespace
}  // namespace ebbinghaus::memory
