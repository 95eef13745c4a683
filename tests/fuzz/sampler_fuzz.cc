// The sampler over any logits and any parameters that admission lets through: the token exists and is not banned; it fails only
// when logits are not finite or all tokens are banned.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "server/base/check.h"
#include "server/engine/sampler.h"

namespace ebbinghaus::engine {
namespace {

// Any fp32; often one of a few, so that there are ties.
float ReadLogit(FuzzedDataProvider& in) {
  using Limits = std::numeric_limits<float>;
  static constexpr float kOdd[] = {0, -0.0f, 1, -1, 20, -20, 1e30f, -1e30f, Limits::max(), Limits::lowest(), Limits::min(),
                                   Limits::denorm_min(), 1e-38f, 88, -104};
  const auto kind = in.ConsumeIntegral<uint8_t>();
  if (kind < 64) return in.PickValueInArray(kOdd);
  if (kind == 64) return in.ConsumeBool() ? Limits::infinity() : Limits::quiet_NaN();
  if (kind < 96) return in.ConsumeFloatingPoint<float>();
  return static_cast<float>(kind) / 8;
}

// In [low, high], at or next to its ends more often than not.
double ReadIn(FuzzedDataProvider& in, double low, double high) {
  switch (in.ConsumeIntegralInRange(0, 5)) {
    case 0: return low;
    case 1: return high;
    case 2: return std::nextafter(low, high);
    case 3: return std::nextafter(high, low);
    case 4: return std::clamp(in.PickValueInArray({1e-46, 1e-39, 1e-30, 1e-6, 0.9, 1.0}), low, high);
    default: return in.ConsumeFloatingPointInRange(low, high);
  }
}

base::SamplingParameters ReadParameters(FuzzedDataProvider& in, uint32_t vocabulary) {
  base::SamplingParameters p;
  const double least = std::numeric_limits<float>::denorm_min();  // admission takes nothing that is 0 as fp32
  p.temperature = ReadIn(in, 0, 2);
  p.top_p = ReadIn(in, least, 1);
  p.min_p = ReadIn(in, 0, 1);
  p.top_k = in.ConsumeIntegralInRange<uint32_t>(0, vocabulary);
  p.repetition_penalty = in.ConsumeBool() ? 1 : ReadIn(in, least, 10);
  p.presence_penalty = in.ConsumeBool() ? 0 : ReadIn(in, -2, 2);
  p.frequency_penalty = in.ConsumeBool() ? 0 : ReadIn(in, -2, 2);
  p.seed = in.ConsumeIntegral<uint64_t>();
  for (uint32_t id = 0; id < vocabulary; ++id) {
    if (in.ConsumeIntegralInRange(0, 7) == 0) p.logit_bias.emplace_back(id, ReadIn(in, -100, 100));
  }
  return p;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  const uint32_t vocabulary = in.ConsumeIntegralInRange<uint32_t>(1, in.ConsumeBool() ? 8 : 100);
  std::vector<base::TokenId> prompt(in.ConsumeIntegralInRange<size_t>(1, 8));
  for (base::TokenId& id : prompt) id = in.ConsumeIntegralInRange<base::TokenId>(0, vocabulary - 1);
  Sampler sampler(ReadParameters(in, vocabulary), prompt);
  std::vector<float> logits(vocabulary);
  for (base::Position step = 0; step < 4; ++step) {
    for (float& logit : logits) logit = ReadLogit(in);
    std::vector<base::TokenId> banned;
    for (base::TokenId id = 0; id < vocabulary; ++id) {
      if (in.ConsumeIntegralInRange(0, 7) == 0) banned.push_back(id);
    }
    const bool finite = std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); });
    const auto id = sampler.Sample(logits, static_cast<base::Position>(prompt.size()) + step, banned);
    EBB_CHECK(id.ok() == (finite && banned.size() < vocabulary));
    if (!id.ok()) continue;
    EBB_CHECK(*id < vocabulary && std::find(banned.begin(), banned.end(), *id) == banned.end());
    const LogProbabilities log_probabilities(logits);
    EBB_CHECK(log_probabilities[*id] <= 1e-6);
    const auto top = log_probabilities.Top(5);
    EBB_CHECK(top.size() == std::min<size_t>(5, vocabulary));
    for (size_t i = 1; i < top.size(); ++i) EBB_CHECK(top[i].logprob <= top[i - 1].logprob);
  }
  return 0;
}

}  // namespace ebbinghaus::engine
