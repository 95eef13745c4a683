// The whole state machine against the specification read literally (memory-spec 8: I1-I8, I15, I16,
// I20).
#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "tests/unit/memory/evicting_run.h"

namespace ebbinghaus::memory {
namespace {

using base::ForgetScope;
using base::MemoryParameters;
using base::Position;
using base::PromptObservation;
using base::Slot;

struct Scenario {
  MemoryParameters parameters;
  uint32_t layers = 1;
  Position prompt = 1;
  uint32_t steps = 0;
  uint64_t seed = 0;
};

template <typename T>
T Pick(std::mt19937& random, std::initializer_list<T> choices) {
  return *(choices.begin() + std::uniform_int_distribution<size_t>(0, choices.size() - 1)(random));
}

// Parameters under which much happens within a hundred steps, some of it at the same time.
Scenario RandomScenario(uint32_t number) {
  std::mt19937 random(number);
  Scenario s;
  MemoryParameters& p = s.parameters;
  p.initial_strength = Pick(random, {0.5, 1.0, 5.0});
  p.time_step = Pick(random, {0.0, 0.05, 0.2, 1.0, 3.0});
  p.reset_threshold = Pick(random, {0.01, 0.03, 0.1, 1.0});
  p.forget_threshold = Pick(random, {0.001, 0.05, 0.5});
  p.strength_cap = Pick(random, {0.0, 0.0, 1.5}) * p.initial_strength;
  p.vote_ratio = Pick(random, {0.01, 0.34, 0.5, 1.0});
  p.vote_layers = Pick(random, {base::VoteLayers::kAll, base::VoteLayers::kFirstHalf});
  p.scope = Pick(random, {ForgetScope::kConsensus, ForgetScope::kPerLayer});
  p.sink_tokens = Pick(random, {0u, 1u, 4u});
  p.recent_tokens = Pick(random, {0u, 1u, 8u, 40u});
  p.min_live_tokens = Pick(random, {1u, 1u, 5u, 30u});
  if (random() % 3 == 0) p.pinned = {{10, 13}, {30, 32}, {12, 15}};
  if (random() % 2 == 0) {
    const uint32_t least = std::max(p.sink_tokens + p.recent_tokens + 10, p.min_live_tokens);
    p.max_live_tokens = least + random() % 20;
  }
  p.observe_interval = Pick(random, {1u, 1u, 3u});
  p.prompt_observation =
      Pick(random, {PromptObservation::kLast, PromptObservation::kWindow, PromptObservation::kAll});
  if (p.prompt_observation == PromptObservation::kWindow)
    p.prompt_window_tokens = Pick(random, {1u, 7u, 1000u});
  if (p.prompt_observation != PromptObservation::kLast) p.prompt_ticks = Pick(random, {0u, 1u, 2u});
  s.layers = Pick(random, {1u, 2u, 3u, 5u});
  s.prompt = Pick<Position>(random, {1, 20, 90, 200});
  s.steps = 120;
  s.seed = number;
  return s;
}

void ExpectSameState(const RetentionState& state, const MaskedModel& masked) {
  for (uint32_t l = 0; l < state.layers(); ++l) {
    const LayerState& layer = state.layer(l);
    std::vector<Position> live = layer.position;
    std::sort(live.begin(), live.end());
    ASSERT_EQ(live, masked.Live(l)) << "layer " << l;
    for (Slot slot = 0; slot < layer.live(); ++slot) {
      const MaskedModel::Cell& cell = masked.cell(l, layer.position[slot]);
      ASSERT_EQ(layer.strength[slot], cell.strength);
      ASSERT_EQ(layer.last_reset[slot], cell.last_reset);
    }
  }
}

constexpr uint32_t kScenarios = 400;

// I8, I9: same events, same live sets, same state to the last bit, same outputs; slots are in
// another order all the time.
void ExpectEvictingEqualsMasking(const Scenario& s) {
  EvictingRun evicting(s.parameters, s.layers, s.seed);
  MaskingRun masking(s.parameters, s.layers, s.seed);
  evicting.ReadPrompt(s.prompt);
  masking.ReadPrompt(s.prompt);
  for (uint32_t step = 1; step <= s.steps; ++step) {
    ASSERT_EQ(evicting.Step(), masking.Step()) << "step " << step;
    ASSERT_NO_FATAL_FAILURE(ExpectSameState(evicting.state(), masking.model())) << "step " << step;
    for (uint32_t l = 0; l < s.layers; ++l) {
      ASSERT_NEAR(evicting.outputs()[l], masking.outputs()[l], 1e-5);
    }
  }
}

TEST(EvictingEqualsMaskingTest, InFourHundredRandomScenarios) {
  for (uint32_t number = 0; number < kScenarios; ++number) {
    SCOPED_TRACE(number);
    ASSERT_NO_FATAL_FAILURE(ExpectEvictingEqualsMasking(RandomScenario(number)));
  }
}

// Watches one run from outside for what must never happen.
class Watch {
 public:
  explicit Watch(const Scenario& scenario)
      : s_(scenario), p_(s_.parameters), gone_(s_.layers), before_(s_.layers) {}

  void Check(const std::vector<Event>& events, const EvictingRun& run) {
    for (const Event& event : events) ASSERT_NO_FATAL_FAILURE(CheckEvent(event, run));
    for (uint32_t l = 0; l < s_.layers; ++l) ASSERT_NO_FATAL_FAILURE(CheckLayer(l, run));
  }

 private:
  void CheckEvent(const Event& event, const EvictingRun& run) {  // I7, I15
    for (uint32_t l = 0; l < s_.layers; ++l) {
      if (event.layer && *event.layer != l) continue;
      ASSERT_TRUE(gone_[l].insert(event.position).second) << "forgotten twice";
    }
    ASSERT_GE(event.position, p_.sink_tokens);
    const Position newborn = s_.prompt + run.step() - 1;
    ASSERT_LT(event.position + p_.recent_tokens, newborn) << "recent";
    for (const base::TokenRange& range : p_.pinned.ranges()) {
      ASSERT_TRUE(event.position < range.begin || event.position >= range.end) << "pinned";
    }
  }

  void CheckLayer(uint32_t l, const EvictingRun& run) {
    const LayerState& layer = run.state().layer(l);
    const Position total = s_.prompt + run.step();
    ASSERT_EQ(layer.live() + gone_[l].size(), total) << "the live set shrinks by events only";
    ASSERT_TRUE(p_.max_live_tokens == 0 || layer.live() <= p_.max_live_tokens);
    ASSERT_GE(layer.live(), std::min(p_.min_live_tokens, total));
    const std::set<Position> live(layer.position.begin(), layer.position.end());
    ASSERT_EQ(live.size(), layer.live()) << "a position in two slots";
    ASSERT_TRUE(live.count(total - 1)) << "the newborn";
    before_[l].resize(total);
    for (Slot slot = 0; slot < layer.live(); ++slot) {
      ASSERT_FALSE(gone_[l].count(layer.position[slot]));
      auto& [strength, last_reset] = before_[l][layer.position[slot]];  // I2, I5
      ASSERT_GE(layer.strength[slot], strength);
      ASSERT_GE(layer.last_reset[slot], last_reset);
      ASSERT_GE(layer.strength[slot], static_cast<float>(p_.initial_strength));
      ASSERT_LE(layer.last_reset[slot], run.now());
      strength = layer.strength[slot];
      last_reset = layer.last_reset[slot];
    }
  }

  const Scenario s_;
  const MemoryParameters& p_;
  std::vector<std::set<Position>> gone_;                           // [L]
  std::vector<std::vector<std::pair<float, base::Tick>>> before_;  // [L][position]
};

TEST(EvictingEqualsMaskingTest, NoRunForgetsWhatIsProtectedOrBreaksALimit) {
  for (uint32_t number = 0; number < kScenarios; ++number) {
    SCOPED_TRACE(number);
    const Scenario s = RandomScenario(number);
    EvictingRun run(s.parameters, s.layers, s.seed);
    Watch watch(s);
    run.ReadPrompt(s.prompt);
    for (uint32_t step = 1; step <= s.steps; ++step) {
      const std::vector<Event> events = run.Step();
      ASSERT_NO_FATAL_FAILURE(watch.Check(events, run)) << "step " << step;
    }
  }
}

TEST(EvictingEqualsMaskingTest, TheScenariosReachEveryBranch) {
  size_t consensus = 0, per_layer = 0, at_minimum = 0, by_budget = 0, mass_expiries = 0,
         protected_recent = 0;
  for (uint32_t number = 0; number < kScenarios; ++number) {
    const Scenario s = RandomScenario(number);
    MaskingRun run(s.parameters, s.layers, s.seed);
    run.ReadPrompt(s.prompt);
    for (uint32_t step = 1; step <= s.steps; ++step) {
      const std::vector<Event> events = run.Step();
      const size_t live = run.model().Live(0).size();
      mass_expiries += events.size() > 20;
      if (events.empty()) continue;
      (s.parameters.scope == ForgetScope::kPerLayer ? per_layer : consensus) += events.size();
      by_budget += live == s.parameters.max_live_tokens;
      at_minimum += live == s.parameters.min_live_tokens;
      protected_recent += live == s.parameters.sink_tokens + s.parameters.recent_tokens + 1;
    }
  }
  EXPECT_GT(consensus, 1000u);
  EXPECT_GT(per_layer, 1000u);
  EXPECT_GT(by_budget, 500u);
  EXPECT_GT(at_minimum, 100u);
  EXPECT_GT(mass_expiries, 20u);
  EXPECT_GT(protected_recent, 100u);
}

// I20.
TEST(EvictingEqualsMaskingTest, TheSameRunTwiceGivesTheSameEventLog) {
  for (uint32_t number = 0; number < 20; ++number) {
    const Scenario s = RandomScenario(number);
    std::vector<std::vector<Event>> logs;
    for (int repeat = 0; repeat < 2; ++repeat) {
      EvictingRun run(s.parameters, s.layers, s.seed);
      run.ReadPrompt(s.prompt);
      std::vector<Event> log;
      for (uint32_t step = 0; step < s.steps; ++step) {
        for (const Event& e : run.Step()) log.push_back(e);
      }
      logs.push_back(log);
    }
    EXPECT_EQ(logs[0], logs[1]);
  }
}

}  // namespace
}  // namespace ebbinghaus::memory
