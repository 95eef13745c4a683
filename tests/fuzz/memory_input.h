// Memory parameters from a fuzzer's bytes.
#pragma once

#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <limits>
#include <optional>

#include "server/memory/parameters.h"

namespace ebbinghaus::fuzz {

// Any double, the odd ones and those that are in most ranges more often.
inline double ReadReal(FuzzedDataProvider& in) {
  using Limits = std::numeric_limits<double>;
  static constexpr double kOdd[] = {0, -0.0, 1, -1, 0.5, 2, 100, 1e6, 1e-46, 1e-300, 1e39, 4e-324, Limits::min(), Limits::max(),
                                    Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()};
  switch (in.ConsumeIntegralInRange(0, 3)) {
    case 0:
      return in.PickValueInArray(kOdd);
    case 1:
      return in.ConsumeFloatingPoint<double>();
    default:
      return in.ConsumeFloatingPointInRange<double>(0, 1);
  }
}

inline uint32_t ReadCount(FuzzedDataProvider& in) {
  return in.ConsumeIntegralInRange(0, 2) == 0 ? in.ConsumeIntegral<uint32_t>() : in.ConsumeIntegralInRange<uint32_t>(0, 100);
}

inline memory::ParameterOverrides ReadOverrides(FuzzedDataProvider& in) {
  memory::ParameterOverrides o;
  if (in.ConsumeBool()) o.preset = in.PickValueInArray(memory::kAllPresets);
  for (auto* real : {&o.initial_strength, &o.time_step, &o.reset_threshold, &o.forget_threshold, &o.vote_ratio, &o.soft_floor,
                     &o.soft_ceiling, &o.soft_layer_ratio, &o.strength_cap}) {
    if (in.ConsumeIntegralInRange(0, 3) == 0) *real = ReadReal(in);
  }
  for (auto* count : {&o.sink_tokens, &o.recent_tokens, &o.min_live_tokens, &o.max_live_tokens, &o.observe_interval,
                      &o.prompt_ticks, &o.prompt_window_tokens}) {
    if (in.ConsumeIntegralInRange(0, 3) == 0) *count = ReadCount(in);
  }
  if (in.ConsumeBool()) o.vote_layers = in.PickValueInArray({base::VoteLayers::kAll, base::VoteLayers::kFirstHalf});
  if (in.ConsumeBool()) o.scope = in.PickValueInArray({base::ForgetScope::kConsensus, base::ForgetScope::kPerLayer});
  if (in.ConsumeIntegralInRange(0, 3) == 0) o.soft_form = in.PickValueInArray({base::SoftForm::kLogBias, base::SoftForm::kKvScale});
  if (in.ConsumeBool()) {
    o.prompt_observation = in.PickValueInArray(
        {base::PromptObservation::kLast, base::PromptObservation::kWindow, base::PromptObservation::kAll});
  }
  for (int i = in.ConsumeIntegralInRange(0, 3); i > 0; --i) {
    const base::Position begin = ReadCount(in), end = ReadCount(in);
    o.pinned.push_back({begin, end});
  }
  return o;
}

}  // namespace ebbinghaus::fuzz
