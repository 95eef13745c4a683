// GenerationMode::kBaseline: plain attention, nothing kept, nothing observed (memory-spec 4.1).
#pragma once

#include "server/memory/policy.h"

namespace ebbinghaus::memory {

class BaselinePolicy final : public MemoryPolicy {
 public:
  bool keeps_state() const override { return false; }
  ForgetDecision Forget(const RetentionState&, base::Tick) const override { return {}; }
  base::AttentionWeighting Weighting(uint32_t) const override { return {}; }
  base::Position FirstObservedRow(base::Position prompt_tokens) const override {
    return prompt_tokens;
  }
  float ObservationGain(uint32_t) const override { return 0; }
  RetentionState NewState(uint32_t) const override { return RetentionState(0, {}); }
  uint32_t MostLiveTokens(uint32_t, uint32_t total_tokens) const override { return total_tokens; }
  base::Tick prompt_ticks() const override { return 0; }
};

}  // namespace ebbinghaus::memory
