#include "server/memory/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

namespace ebbinghaus::memory {
namespace {

using base::GenerationMode;
using base::MemoryParameters;
using base::PromptObservation;
using base::Violations;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr GenerationMode kSoft = GenerationMode::kSoftDelete;
constexpr GenerationMode kSparse = GenerationMode::kSparseAttention;
constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr uint32_t kMost = std::numeric_limits<uint32_t>::max();

using Set = std::function<void(ParameterOverrides&)>;

std::vector<base::Violation> Wrong(GenerationMode mode, const Set& set,
                                   MemoryParameters* resolved = nullptr) {
  ParameterOverrides overrides;
  set(overrides);
  Violations violations;
  const MemoryParameters p = Resolve(mode, Preset::kDefault, overrides, violations);
  if (resolved) *resolved = p;
  return violations.all();
}

std::vector<std::string> Fields(const std::vector<base::Violation>& violations) {
  std::vector<std::string> fields;
  for (const base::Violation& v : violations) fields.push_back(v.field);
  return fields;
}

// Spec 4.6 and the bold values of the specification, number by number.
TEST(PresetTest, DefaultHasTheSpecifiedNumbers) {
  const MemoryParameters p = PresetParameters(Preset::kDefault);
  EXPECT_EQ(p.initial_strength, 5.0);
  EXPECT_EQ(p.time_step, 0.01);
  EXPECT_EQ(p.reset_threshold, 0.01);
  EXPECT_EQ(p.forget_threshold, 0.001);
  EXPECT_EQ(p.vote_ratio, 0.5);
  EXPECT_EQ(p.vote_layers, base::VoteLayers::kAll);
  EXPECT_EQ(p.scope, base::ForgetScope::kConsensus);
  EXPECT_EQ(p.soft_floor, 0.8);
  EXPECT_EQ(p.soft_ceiling, 1.0);
  EXPECT_EQ(p.soft_layer_ratio, 0.5);
  EXPECT_EQ(p.soft_form, base::SoftForm::kLogBias);
  EXPECT_EQ(p.sink_tokens, 4u);
  EXPECT_EQ(p.recent_tokens, 64u);
  EXPECT_EQ(p.min_live_tokens, 1u);
  EXPECT_EQ(p.max_live_tokens, 0u);
  EXPECT_EQ(p.observe_interval, 1u);
  EXPECT_EQ(p.prompt_ticks, 0u);
  EXPECT_EQ(p.prompt_observation, PromptObservation::kLast);
  EXPECT_EQ(p.prompt_window_tokens, 0u);
  EXPECT_EQ(p.strength_cap, 0.0);
  EXPECT_TRUE(p.pinned.empty());
}

TEST(PresetTest, TheOthersDifferFromDefaultExactlyWhereTheySay) {
  MemoryParameters original = PresetParameters(Preset::kDefault);
  original.soft_form = base::SoftForm::kKvScale;
  original.sink_tokens = 0;
  original.recent_tokens = 0;
  EXPECT_EQ(PresetParameters(Preset::kOriginal), original);

  MemoryParameters chat = PresetParameters(Preset::kDefault);
  chat.time_step = 0.05;
  chat.scope = base::ForgetScope::kPerLayer;
  chat.prompt_observation = PromptObservation::kAll;
  EXPECT_EQ(PresetParameters(Preset::kChat), chat);

  MemoryParameters tight = chat;
  tight.time_step = 0.175;
  EXPECT_EQ(PresetParameters(Preset::kTight), tight);
}

TEST(PresetTest, HalfLivesAreThoseOfTheSpecification) {
  const auto half_life_ticks = [](Preset preset) {
    const MemoryParameters p = PresetParameters(preset);
    return p.initial_strength * std::log(2.0) / p.time_step;
  };
  EXPECT_NEAR(half_life_ticks(Preset::kDefault), 346.6, 0.05);
  EXPECT_NEAR(half_life_ticks(Preset::kChat), 69.3, 0.05);
  EXPECT_NEAR(half_life_ticks(Preset::kTight), 19.8, 0.05);
}

TEST(PresetTest, NamesAreThoseOfTheProtoAndTheFlags) {
  std::vector<std::string> names;
  for (const Preset preset : kAllPresets) names.emplace_back(Name(preset));
  EXPECT_THAT(names, ElementsAre("original", "default", "chat", "tight"));
}

TEST(PresetTest, EveryPresetIsValidInEveryMode) {
  for (const GenerationMode mode : base::kAllModes) {
    for (const Preset preset : kAllPresets) {
      Violations violations;
      Resolve(mode, preset, std::nullopt, violations);
      EXPECT_TRUE(violations.empty()) << violations.ToStatus();
      if (mode == GenerationMode::kBaseline) continue;
      ParameterOverrides overrides;
      overrides.preset = preset;
      EXPECT_EQ(Resolve(mode, Preset::kDefault, overrides, violations), PresetParameters(preset));
      EXPECT_TRUE(violations.empty()) << violations.ToStatus();
    }
  }
}

TEST(ResolveTest, TheRequestsPresetBeatsTheServersAndFieldsBeatBoth) {
  ParameterOverrides overrides;
  overrides.time_step = 0.5;
  Violations violations;
  MemoryParameters p = Resolve(kSparse, Preset::kTight, overrides, violations);
  EXPECT_EQ(p.time_step, 0.5);
  EXPECT_EQ(p.scope, base::ForgetScope::kPerLayer) << "the rest is the server's preset";
  overrides.preset = Preset::kOriginal;
  p = Resolve(kSparse, Preset::kTight, overrides, violations);
  EXPECT_EQ(p.time_step, 0.5);
  EXPECT_EQ(p.recent_tokens, 0u);
  EXPECT_EQ(p.scope, base::ForgetScope::kConsensus);
  EXPECT_TRUE(violations.empty());
}

TEST(ResolveTest, EveryFieldArrives) {
  MemoryParameters p;
  EXPECT_THAT(Wrong(
                  kSparse,
                  [](ParameterOverrides& o) {
                    o.initial_strength = 2;
                    o.time_step = 0.3;
                    o.reset_threshold = 0.2;
                    o.forget_threshold = 0.4;
                    o.vote_ratio = 0.6;
                    o.vote_layers = base::VoteLayers::kFirstHalf;
                    o.scope = base::ForgetScope::kPerLayer;
                    o.sink_tokens = 1;
                    o.recent_tokens = 2;
                    o.min_live_tokens = 3;
                    o.max_live_tokens = 40;
                    o.observe_interval = 5;
                    o.prompt_ticks = 6;
                    o.prompt_observation = PromptObservation::kWindow;
                    o.prompt_window_tokens = 7;
                    o.strength_cap = 8;
                    o.pinned = {{9, 10}};
                  },
                  &p),
              IsEmpty());
  MemoryParameters expected;
  expected.initial_strength = 2;
  expected.time_step = 0.3;
  expected.reset_threshold = 0.2;
  expected.forget_threshold = 0.4;
  expected.vote_ratio = 0.6;
  expected.vote_layers = base::VoteLayers::kFirstHalf;
  expected.scope = base::ForgetScope::kPerLayer;
  expected.sink_tokens = 1;
  expected.recent_tokens = 2;
  expected.min_live_tokens = 3;
  expected.max_live_tokens = 40;
  expected.observe_interval = 5;
  expected.prompt_ticks = 6;
  expected.prompt_observation = PromptObservation::kWindow;
  expected.prompt_window_tokens = 7;
  expected.strength_cap = 8;
  expected.pinned = {{9, 10}};
  EXPECT_EQ(p, expected);

  EXPECT_THAT(Wrong(
                  kSoft,
                  [](ParameterOverrides& o) {
                    o.soft_floor = 0.1;
                    o.soft_ceiling = 0.2;
                    o.soft_layer_ratio = 0.3;
                    o.soft_form = base::SoftForm::kKvScale;
                  },
                  &p),
              IsEmpty());
  expected = {};
  expected.soft_floor = 0.1;
  expected.soft_ceiling = 0.2;
  expected.soft_layer_ratio = 0.3;
  expected.soft_form = base::SoftForm::kKvScale;
  EXPECT_EQ(p, expected);
}

// One field set to each of `values` in turn.
template <typename T>
void ExpectEach(GenerationMode mode, std::optional<T> ParameterOverrides::* field,
                std::vector<T> values, const std::vector<std::string>& fields,
                const std::string& range = "") {
  for (const T value : values) {
    const auto wrong = Wrong(mode, [&](ParameterOverrides& o) { o.*field = value; });
    EXPECT_EQ(Fields(wrong), fields) << value;
    for (const base::Violation& v : wrong) EXPECT_THAT(v.description, HasSubstr(range));
  }
}

struct RealField {
  GenerationMode mode;
  const char* name;
  std::optional<double> ParameterOverrides::* field;
  std::vector<double> good, bad;
  const char* range;
};

TEST(ResolveTest, RealNumbersAreTakenInTheirRangesOnly) {
  using O = ParameterOverrides;
  const double tiny = std::numeric_limits<float>::denorm_min();
  const double above_one = std::nextafter(1.0, 2.0), below_one = std::nextafter(1.0f, 0.0f);
  // What fp32 rounds to the open bound.
  const double zero = 1e-46, one = std::nextafter(1.0, 0.0);
  const RealField fields[] = {
      {kSparse,
       "initial_strength",
       &O::initial_strength,
       {tiny, 5, 1e6},
       {0, zero, -1, 1.000001e6},
       "(0, 1e6]"},
      {kSoft, "time_step", &O::time_step, {0, tiny, 1e3}, {-tiny, 1000.1}, "[0, 1e3]"},
      {kSoft, "reset_threshold", &O::reset_threshold, {tiny, 1}, {0, zero, -0.1, above_one}, "(0, 1]"},
      {kSparse,
       "forget_threshold",
       &O::forget_threshold,
       {tiny, below_one},
       {0, zero, 1, one, -0.1},
       "(0, 1)"},
      {kSparse, "vote_ratio", &O::vote_ratio, {tiny, 1}, {0, zero, above_one}, "(0, 1]"},
      {kSoft, "soft_floor", &O::soft_floor, {tiny, 1}, {0, zero, above_one}, "(0, 1]"},
      {kSoft, "soft_ceiling", &O::soft_ceiling, {0.8, 1}, {0, zero, -1, above_one}, "(0, 1]"},
      {kSoft, "soft_layer_ratio", &O::soft_layer_ratio, {0, 0.5, 1}, {-tiny, above_one}, "[0, 1]"},
      {kSparse, "strength_cap", &O::strength_cap, {0, 5, 1e300}, {-1, 4.999}, "initial_strength"},
  };
  for (const RealField& f : fields) {
    SCOPED_TRACE(f.name);
    ExpectEach(f.mode, f.field, f.good, {});
    std::vector<double> bad = f.bad;
    bad.insert(bad.end(), {kNaN, kInfinity, -kInfinity});
    ExpectEach(f.mode, f.field, bad, {std::string("memory.") + f.name}, f.range);
  }
}

TEST(ResolveTest, CountsAreTakenInTheirRangesOnly) {
  using O = ParameterOverrides;
  ExpectEach<uint32_t>(kSparse, &O::sink_tokens, {0, 1, kMost}, {});
  ExpectEach<uint32_t>(kSparse, &O::recent_tokens, {0, 1, kMost}, {});
  ExpectEach<uint32_t>(kSparse, &O::min_live_tokens, {1, kMost}, {});
  ExpectEach<uint32_t>(kSparse, &O::min_live_tokens, {0}, {"memory.min_live_tokens"}, "at least 1");
  ExpectEach<uint32_t>(kSoft, &O::observe_interval, {1, kMost}, {});
  ExpectEach<uint32_t>(kSoft, &O::observe_interval, {0}, {"memory.observe_interval"}, "at least 1");
  ExpectEach<uint32_t>(kSoft, &O::prompt_ticks, {1001, kMost}, {"memory.prompt_ticks"},
                       "[0, 1000]");
}

TEST(ResolveTest, TheClockOfTheLongestPromptStaysWithinATick) {
  EXPECT_LE(uint64_t{kMaxPromptTicks} << 21, uint64_t{std::numeric_limits<base::Tick>::max()});
}

TEST(ResolveTest, FieldsOfTheOtherModeAreRefusedAndNamed) {
  EXPECT_THAT(Fields(Wrong(kSparse,
                           [](ParameterOverrides& o) {
                             o.soft_floor = 0.8;
                             o.soft_ceiling = 1;
                             o.soft_layer_ratio = 0.5;
                             o.soft_form = base::SoftForm::kLogBias;
                           })),
              ElementsAre("memory.soft_floor", "memory.soft_ceiling", "memory.soft_layer_ratio",
                          "memory.soft_form"));
  const auto wrong = Wrong(kSoft, [](ParameterOverrides& o) {
    o.forget_threshold = 0.1;
    o.vote_ratio = 0.5;
    o.vote_layers = base::VoteLayers::kAll;
    o.scope = base::ForgetScope::kConsensus;
    o.sink_tokens = 0;
    o.recent_tokens = 0;
    o.min_live_tokens = 1;
    o.max_live_tokens = 0;
    o.pinned = {{0, 1}};
  });
  EXPECT_THAT(Fields(wrong),
              ElementsAre("memory.forget_threshold", "memory.vote_ratio", "memory.vote_layers",
                          "memory.scope", "memory.sink_tokens", "memory.recent_tokens",
                          "memory.min_live_tokens", "memory.max_live_tokens", "memory.pinned"));
  for (const base::Violation& v : wrong)
    EXPECT_THAT(v.description, HasSubstr("not used by generation_mode soft_delete"));
}

TEST(ResolveTest, BaselineTakesNoMemoryParameterAtAll) {
  const std::vector<Set> some = {[](ParameterOverrides& o) { o.preset = Preset::kDefault; },
                                 [](ParameterOverrides& o) { o.time_step = 0.01; },
                                 [](ParameterOverrides& o) { o.sink_tokens = 0; },
                                 [](ParameterOverrides& o) { o.pinned = {{0, 1}}; },
                                 [](ParameterOverrides& o) { o.initial_strength = kNaN; }};
  for (const Set& set : some)
    EXPECT_THAT(Fields(Wrong(GenerationMode::kBaseline, set)), ElementsAre("memory"));
  EXPECT_THAT(Wrong(GenerationMode::kBaseline, [](ParameterOverrides&) {}), IsEmpty())
      << "an empty message sets nothing";
}

TEST(ResolveTest, RulesOverTwoFieldsNameBoth) {
  struct Rule {
    GenerationMode mode;
    Set set;
    const char *field, *other;
  };
  const Rule rules[] = {
      {kSoft, [](auto& o) { o.soft_floor = 0.9, o.soft_ceiling = 0.7; }, "memory.soft_floor",
       "soft_ceiling"},
      {kSoft, [](auto& o) { o.soft_ceiling = 0.7; }, "memory.soft_floor", "soft_ceiling"},
      {kSparse, [](auto& o) { o.strength_cap = 4; }, "memory.strength_cap", "initial_strength"},
      {kSparse, [](auto& o) { o.initial_strength = 10, o.strength_cap = 9; }, "memory.strength_cap",
       "initial_strength"},
      {kSparse, [](auto& o) { o.prompt_ticks = 1; }, "memory.prompt_ticks", "prompt_observation"},
      {kSparse, [](auto& o) { o.prompt_observation = PromptObservation::kWindow; },
       "memory.prompt_window_tokens", "prompt_observation"},
      {kSparse, [](auto& o) { o.prompt_window_tokens = 5; }, "memory.prompt_window_tokens",
       "prompt_observation"},
      {kSparse, [](auto& o) { o.max_live_tokens = 68; }, "memory.max_live_tokens", "recent_tokens"},
      {kSparse, [](auto& o) { o.max_live_tokens = 68; }, "memory.max_live_tokens", "sink_tokens"},
      {kSparse, [](auto& o) { o.max_live_tokens = 70, o.pinned = {{100, 102}}; },
       "memory.max_live_tokens", "pinned 2"},
      {kSparse, [](auto& o) { o.max_live_tokens = 100, o.min_live_tokens = 101; },
       "memory.max_live_tokens", "min_live_tokens"},
  };
  for (const Rule& rule : rules) {
    const auto wrong = Wrong(rule.mode, rule.set);
    ASSERT_THAT(Fields(wrong), ElementsAre(rule.field)) << rule.other;
    EXPECT_THAT(wrong[0].description, HasSubstr(rule.other));
  }
}

TEST(ResolveTest, RulesOverTwoFieldsAllowTheirLimits) {
  const std::pair<GenerationMode, Set> good[] = {
      {kSoft, [](auto& o) { o.soft_floor = 0.7, o.soft_ceiling = 0.7; }},
      {kSparse, [](auto& o) { o.initial_strength = 10, o.strength_cap = 10; }},
      {kSparse,
       [](auto& o) { o.prompt_ticks = 1000, o.prompt_observation = PromptObservation::kAll; }},
      {kSparse,
       [](auto& o) {
         o.prompt_ticks = 1, o.prompt_observation = PromptObservation::kWindow,
         o.prompt_window_tokens = 1;
       }},
      {kSparse, [](auto& o) { o.prompt_window_tokens = 0; }},
      {kSparse, [](auto& o) { o.max_live_tokens = 69; }},
      {kSparse, [](auto& o) { o.max_live_tokens = 71, o.pinned = {{100, 102}}; }},
      {kSparse, [](auto& o) { o.max_live_tokens = 100, o.min_live_tokens = 100; }},
      {kSparse, [](auto& o) { o.max_live_tokens = 0, o.recent_tokens = kMost; }},
  };
  int row = 0;
  for (const auto& [mode, set] : good)
    EXPECT_THAT(Fields(Wrong(mode, set)), IsEmpty()) << "row " << row++;
}

TEST(ResolveTest, AFieldThatIsBadByItselfIsNotBlamedTwice) {
  EXPECT_THAT(Fields(Wrong(kSoft, [](auto& o) { o.soft_floor = 2, o.soft_ceiling = 0.5; })),
              ElementsAre("memory.soft_floor"));
  EXPECT_THAT(Fields(Wrong(kSparse, [](auto& o) { o.initial_strength = -1, o.strength_cap = 3; })),
              ElementsAre("memory.initial_strength"));
  EXPECT_THAT(Fields(Wrong(kSparse, [](auto& o) { o.max_live_tokens = 80, o.pinned = {{50, 5}}; })),
              ElementsAre("memory.pinned[0]"));
}

TEST(ResolveTest, ABudgetBelowWhatIsProtectedIsSeenInSixtyFourBits) {
  const Set huge = [](ParameterOverrides& o) {
    o.sink_tokens = kMost;
    o.recent_tokens = kMost;
    o.pinned = {{0, kMost}};
    o.max_live_tokens = kMost;
  };
  EXPECT_THAT(Fields(Wrong(kSparse, huge)), ElementsAre("memory.max_live_tokens"));
}

TEST(ResolveTest, APositionPinnedTwiceNeedsRoomOnce) {
  const auto with_budget = [](uint32_t budget) {
    return Wrong(kSparse, [&](ParameterOverrides& o) {
      o.sink_tokens = o.recent_tokens = 0;
      o.pinned = {{10, 20}, {5, 12}, {11, 13}, {20, 25}};  // 20 positions
      o.max_live_tokens = budget;
    });
  };
  EXPECT_THAT(with_budget(21), IsEmpty());
  EXPECT_THAT(Fields(with_budget(20)), ElementsAre("memory.max_live_tokens"));
}

TEST(ResolveTest, EveryEmptyPinnedRangeIsNamedByItsIndex) {
  EXPECT_THAT(Fields(Wrong(kSparse, [](auto& o) { o.pinned = {{1, 2}, {3, 3}, {0, 9}, {5, 4}}; })),
              ElementsAre("memory.pinned[1]", "memory.pinned[3]"));
}

TEST(ResolveTest, PinnedRangesHaveALimitAndAreJoined) {
  const auto pin = [](size_t count) {
    return [count](ParameterOverrides& o) {
      for (uint32_t i = 0; i < count; ++i) o.pinned.push_back({3 * i, 3 * i + 1});
    };
  };
  EXPECT_THAT(Wrong(kSparse, pin(kMaxPinnedRanges)), IsEmpty());
  EXPECT_THAT(Fields(Wrong(kSparse, pin(kMaxPinnedRanges + 1))), ElementsAre("memory.pinned"));
  EXPECT_THAT(Wrong(kSparse, pin(kMaxPinnedRanges + 1))[0].description, HasSubstr("1024"));
}

TEST(ResolveTest, EverythingWrongIsReportedAtOnce) {
  const auto wrong = Wrong(kSparse, [](ParameterOverrides& o) {
    o.initial_strength = 0;
    o.time_step = -1;
    o.reset_threshold = 2;
    o.strength_cap = kNaN;
    o.observe_interval = 0;
    o.prompt_ticks = 2000;
    o.prompt_window_tokens = 3;
    o.soft_floor = 0.5;
    o.forget_threshold = 1;
    o.vote_ratio = 0;
    o.min_live_tokens = 0;
    o.max_live_tokens = 2;
    o.pinned = {{2, 1}};
  });
  const std::vector<std::string> fields = Fields(wrong);
  EXPECT_EQ(std::set<std::string>(fields.begin(), fields.end()),
            (std::set<std::string>{
                "memory.initial_strength", "memory.time_step", "memory.reset_threshold",
                "memory.strength_cap", "memory.observe_interval", "memory.prompt_ticks",
                "memory.prompt_window_tokens", "memory.soft_floor", "memory.forget_threshold",
                "memory.vote_ratio", "memory.min_live_tokens", "memory.max_live_tokens",
                "memory.pinned[0]"}));
}

}  // namespace
}  // namespace ebbinghaus::memory
