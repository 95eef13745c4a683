// Memory parameters: a preset and overrides of any value; what passes is within memory-spec section 5.
#include <fuzzer/FuzzedDataProvider.h>

#include <cmath>
#include <limits>
#include <string>

#include "server/base/check.h"
#include "server/base/violations.h"
#include "server/memory/parameters.h"
#include "server/memory/policy.h"
#include "tests/fuzz/memory_input.h"

namespace ebbinghaus::memory {
namespace {

void CheckRanges(base::GenerationMode mode, const base::MemoryParameters& p) {
  EBB_CHECK(p.initial_strength > 0 && p.initial_strength <= 1e6);
  EBB_CHECK(p.time_step >= 0 && p.time_step <= 1e3);
  EBB_CHECK(p.reset_threshold > 0 && p.reset_threshold <= 1);
  EBB_CHECK(p.forget_threshold > 0 && p.forget_threshold < 1);
  EBB_CHECK(p.vote_ratio > 0 && p.vote_ratio <= 1);
  EBB_CHECK(p.soft_floor > 0 && p.soft_floor <= p.soft_ceiling && p.soft_ceiling <= 1);
  EBB_CHECK(p.soft_layer_ratio >= 0 && p.soft_layer_ratio <= 1);
  EBB_CHECK(p.strength_cap == 0 || (p.strength_cap >= p.initial_strength && std::isfinite(p.strength_cap)));
  EBB_CHECK(p.min_live_tokens >= 1 && p.observe_interval >= 1 && p.prompt_ticks <= kMaxPromptTicks);
  EBB_CHECK(p.prompt_ticks == 0 || p.prompt_observation != base::PromptObservation::kLast);
  EBB_CHECK((p.prompt_window_tokens > 0) == (p.prompt_observation == base::PromptObservation::kWindow));
  for (const base::TokenRange& range : p.pinned.ranges()) EBB_CHECK(range.begin < range.end);
  if (p.max_live_tokens > 0) {
    EBB_CHECK(p.max_live_tokens >= p.min_live_tokens && p.max_live_tokens > uint64_t{p.sink_tokens} + p.recent_tokens);
    EBB_CHECK(mode == base::GenerationMode::kSparseAttention);
  }
}

// As fp32, which is what the state holds, the numbers still make sense.
void CheckPolicy(base::GenerationMode mode, const base::MemoryParameters& p) {
  const auto policy = MakePolicy(mode, p, 3);
  RetentionState state = policy->NewState(3);
  state.Append(0, 0);
  const float strength = state.layer(0).strength[0];
  EBB_CHECK(strength > 0 && std::isfinite(strength));
  for (uint32_t layer = 0; layer < 3; ++layer) {
    const base::AttentionWeighting weighting = policy->Weighting(layer);
    const double weight = weighting.Weight(std::numeric_limits<base::Tick>::max(), 0, strength);
    EBB_CHECK(weight > 0 && weight <= 1);
  }
  EBB_CHECK(policy->FirstObservedRow(10) <= 10);
  EBB_CHECK(policy->MostLiveTokens(10, 20) >= 10 && policy->MostLiveTokens(10, 20) <= 20);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  const base::GenerationMode mode = in.PickValueInArray(base::kAllModes);
  const Preset fallback = in.PickValueInArray(kAllPresets);
  std::optional<ParameterOverrides> overrides;
  if (in.ConsumeIntegralInRange(0, 7) > 0) overrides = fuzz::ReadOverrides(in);
  base::Violations violations;
  const base::MemoryParameters resolved = Resolve(mode, fallback, overrides, violations);
  EBB_CHECK(violations.ToStatus().message().size() <= base::Violations::kMaxBytes);
  for (const base::Violation& violation : violations.all()) EBB_CHECK(violation.field.rfind("memory", 0) == 0);
  if (!violations.empty()) return 0;
  if (mode == base::GenerationMode::kBaseline) {
    EBB_CHECK(!overrides || *overrides == ParameterOverrides{});
    return 0;
  }
  CheckRanges(mode, resolved);
  CheckPolicy(mode, resolved);
  return 0;
}

}  // namespace ebbinghaus::memory
