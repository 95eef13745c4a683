#include "server/engine/sampler.h"

#include <cmath>
#include <initializer_list>
#include <limits>
#include <map>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ebbinghaus::engine {
namespace {

using base::SamplingParameters;
using base::TokenId;

TokenId SampleOnce(SamplingParameters parameters, std::vector<float> logits, base::Position position = 5,
                   std::vector<TokenId> prompt = {}, std::vector<TokenId> banned = {}) {
  Sampler sampler(std::move(parameters), prompt);
  return sampler.Sample(absl::MakeSpan(logits), position, banned).value();
}

std::map<TokenId, double> Frequencies(SamplingParameters parameters, const std::vector<float>& logits, int draws = 20000) {
  std::map<TokenId, double> frequencies;
  Sampler sampler(parameters, {});
  for (int i = 0; i < draws; ++i) {
    std::vector<float> scratch = logits;
    frequencies[sampler.Sample(absl::MakeSpan(scratch), i, {}).value()] += 1.0 / draws;
  }
  return frequencies;
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowerIdOfATie) {
  EXPECT_EQ(SampleOnce({.temperature = 0}, {1, 3, 3, 2}), 1u);
}

TEST(Sampler, DrawsFollowTheSoftmaxOfTheLogitsOverTemperature) {
  const std::vector<float> logits = {0, 1, 2, -1};
  for (double temperature : {0.5, 1.0, 2.0}) {
    double total = 0;
    for (float l : logits) total += std::exp(l / temperature);
    const auto seen = Frequencies({.temperature = temperature, .top_p = 1, .seed = 3}, logits);
    for (TokenId id = 0; id < logits.size(); ++id) {
      EXPECT_NEAR(seen.at(id), std::exp(logits[id] / temperature) / total, 0.015) << temperature << " " << id;
    }
  }
}

TEST(Sampler, TopKKeepsTheHeaviestAndTopPTheShortestPrefixThatReachesItsShare) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.05f), std::log(0.3f), std::log(0.15f)};
  const auto ids = [](const std::map<TokenId, double>& seen) {
    std::vector<TokenId> keys;
    for (const auto& [id, share] : seen) keys.push_back(id);
    return keys;
  };
  EXPECT_THAT(ids(Frequencies({.temperature = 1, .top_p = 1, .top_k = 2}, logits)), testing::ElementsAre(0, 2));
  EXPECT_THAT(ids(Frequencies({.temperature = 1, .top_p = 0.5}, logits)), testing::ElementsAre(0));
  EXPECT_THAT(ids(Frequencies({.temperature = 1, .top_p = 0.79}, logits)), testing::ElementsAre(0, 2));
  EXPECT_THAT(ids(Frequencies({.temperature = 1, .top_p = 0.81}, logits)), testing::ElementsAre(0, 2, 3));
  // top-p's share is of what top-k left: 0.5 / 0.8 = 0.625.
  EXPECT_THAT(ids(Frequencies({.temperature = 1, .top_p = 0.6, .top_k = 2}, logits)), testing::ElementsAre(0));
  EXPECT_THAT(ids(Frequencies({.temperature = 1, .top_p = 1, .min_p = 0.25}, logits)), testing::ElementsAre(0, 2, 3));
}

TEST(Sampler, ALargeVocabularyIsWalkedToItsEnd) {
  std::vector<float> logits(5000, 0.0f);
  const auto seen = Frequencies({.temperature = 1, .top_p = 1, .seed = 9}, logits, 3000);
  EXPECT_GT(seen.size(), 2000u);
  EXPECT_GT(seen.rbegin()->first, 4900u);
}

TEST(Sampler, TheSameSeedAndPositionGiveTheSameTokenWhateverCameBefore) {
  std::vector<float> logits(100);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i));
  const SamplingParameters parameters{.temperature = 1.5, .top_p = 1, .seed = 42};
  Sampler busy(parameters, {});
  for (base::Position p = 0; p < 50; ++p) {
    std::vector<float> scratch = logits;
    EXPECT_EQ(busy.Sample(absl::MakeSpan(scratch), p, {}).value(), SampleOnce(parameters, logits, p));
  }
}

TEST(Sampler, UniformNumbersDifferBySeedAndPositionAndFillTheUnitInterval) {
  double sum = 0;
  for (int i = 0; i < 10000; ++i) {
    const double u = UniformAt(i % 100, i / 100);
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.01);
  EXPECT_NE(UniformAt(1, 2), UniformAt(2, 1));
}

TEST(Sampler, PenaltiesFollowTheirFormulas) {
  // Repetition: positive logits divided, negative multiplied, prompt tokens included.
  EXPECT_EQ(SampleOnce({.temperature = 0, .repetition_penalty = 2}, {3, 2, -5}, 5, {0}), 1u);
  EXPECT_EQ(SampleOnce({.temperature = 0, .repetition_penalty = 2}, {-1, -1.5, -5}, 5, {0}), 1u);
  // Presence and frequency look at the output only.
  Sampler sampler({.temperature = 0, .presence_penalty = 1, .frequency_penalty = 0.5}, std::vector<TokenId>{0});
  std::vector<TokenId> out;
  for (int i = 0; i < 4; ++i) {
    std::vector<float> logits = {3, 1.4f, 0};
    out.push_back(sampler.Sample(absl::MakeSpan(logits), i, {}).value());
  }
  EXPECT_THAT(out, testing::ElementsAre(0, 0, 1, 0));  // 3; 1.5; 1.0 < 1.4; 1.0 > -0.1
}

TEST(Sampler, BiasAndBansChangeTheChoice) {
  EXPECT_EQ(SampleOnce({.temperature = 0, .logit_bias = {{2, 10}}}, {3, 2, 1}), 2u);
  EXPECT_EQ(SampleOnce({.temperature = 0}, {3, 2, 1}, 5, {}, {0, 1}), 2u);
  EXPECT_EQ(SampleOnce({.temperature = 1, .top_p = 1}, {30, 2, 1}, 5, {}, {0, 1}), 2u);
}

TEST(Sampler, LogitsThatAreNotFiniteAreAnError) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits = {1, bad, 2};
    Sampler sampler({}, {});
    EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), 0, {}).status().code(), absl::StatusCode::kInternal);
  }
}

TEST(Sampler, ABanOnEveryTokenIsAnError) {
  for (double temperature : {0.0, 1.0}) {
    std::vector<float> logits = {1, 2, 3};
    Sampler sampler({.temperature = temperature}, {});
    const std::vector<TokenId> banned = {2, 0, 1};
    EXPECT_EQ(sampler.Sample(absl::MakeSpan(logits), 0, banned).status().code(), absl::StatusCode::kInternal);
  }
}

// Every field at the edges of its range, each with each, over logits of every size: some token is drawn, and none that is
// banned.
TEST(Sampler, NoParametersInTheirRangesLeaveNothingToDraw) {
  constexpr float kMost = std::numeric_limits<float>::max();
  constexpr double kLeast = std::numeric_limits<float>::denorm_min();
  std::vector<SamplingParameters> edges(1);
  const auto each = [&](auto member, std::initializer_list<double> values) {
    std::vector<SamplingParameters> more;
    for (SamplingParameters parameters : edges) {
      for (const double value : values) {
        parameters.*member = static_cast<std::decay_t<decltype(parameters.*member)>>(value);
        more.push_back(parameters);
      }
    }
    edges = std::move(more);
  };
  constexpr uint32_t kVocabulary = 20;
  each(&SamplingParameters::temperature, {0, std::numeric_limits<double>::denorm_min(), 1e-9, 1, 2});
  each(&SamplingParameters::top_p, {kLeast, 0.5, 1});
  each(&SamplingParameters::top_k, {0, 1, kVocabulary});
  each(&SamplingParameters::min_p, {0, kLeast, 1});
  each(&SamplingParameters::repetition_penalty, {kLeast, 1e-30, 1, 10});
  each(&SamplingParameters::presence_penalty, {-2, 2});
  each(&SamplingParameters::frequency_penalty, {-2, 0, 2});
  const std::vector<TokenId> prompt = {0, 3, 4, 5, 19}, banned = {3, 7};
  std::mt19937 random(1);
  for (SamplingParameters parameters : edges) {
    if (random() % 2) parameters.logit_bias = {{2, 100}, {4, -100}};
    const float scale = std::vector<float>{1e-40f, 1, 1e30f, kMost}[random() % 4];
    std::vector<float> logits(kVocabulary);
    for (float& logit : logits) logit = scale * (static_cast<float>(random() % 2001) / 1000 - 1);
    Sampler sampler(parameters, prompt);
    for (base::Position position = 0; position < 3; ++position) {
      const auto id = sampler.Sample(logits, position, banned);
      ASSERT_TRUE(id.ok()) << id.status();
      ASSERT_LT(*id, kVocabulary);
      ASSERT_THAT(banned, testing::Not(testing::Contains(*id)));
    }
  }
}

TEST(Sampler, APenaltyThatOverflowsFp32StillPrefersTheSeenToken) {
  // 3 / 1e-45 is infinite; so is -5 * 1e-45 zero, which is larger than the unseen -1.
  EXPECT_EQ(SampleOnce({.temperature = 1, .repetition_penalty = 1e-45}, {3, 200, -5}, 5, {0}), 0u);
  EXPECT_EQ(SampleOnce({.temperature = 1, .top_k = 1, .repetition_penalty = 1e-45}, {-5, -1, -5}, 5, {0}), 0u);
}

TEST(LogProbabilities, AreNaturalLogarithmsThatSumToOneAndRankByWeight) {
  const std::vector<float> logits = {1000, 1001, 999, 1001};
  const LogProbabilities logprobs(logits);
  double sum = 0;
  for (TokenId id = 0; id < logits.size(); ++id) sum += std::exp(logprobs[id]);
  EXPECT_NEAR(sum, 1, 1e-12);
  const auto top = logprobs.Top(3);
  ASSERT_EQ(top.size(), 3u);
  EXPECT_EQ(top[0].id, 1u);
  EXPECT_EQ(top[1].id, 3u);
  EXPECT_EQ(top[2].id, 0u);
  EXPECT_DOUBLE_EQ(top[2].logprob, logprobs[0]);
  EXPECT_EQ(logprobs.Top(20).size(), 4u);
}

// Exponentials that say so: the last logit alone has weight.
void LastOnly(const float*, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = i + 1 == count ? 1.0f : 0.0f;
}

TEST(Sampler, DrawsWithTheKernelsThatItIsGiven) {
  kernels::KernelTable table = *kernels::KernelsFor(kernels::Target::kPortable);
  table.exponentials = LastOnly;
  const std::vector<float> logits = {3, 2, 1, 0};
  Sampler sampler({.temperature = 1}, {}, table);
  for (base::Position position = 0; position < 100; ++position) {
    EXPECT_EQ(sampler.Sample(logits, position, {}).value(), 3u);
  }
}

}  // namespace
}  // namespace ebbinghaus::engine
