// What both memory modes share: how state is born and strengthened, and how time passes
// (memory-spec 2 and 3).
#pragma once

#include "server/memory/policy.h"

namespace ebbinghaus::memory {

// Forgets nothing and weighs nothing; the modes add that.
class FadingPolicy : public MemoryPolicy {
 public:
  bool keeps_state() const override { return true; }
  ForgetDecision Forget(const RetentionState&, base::Tick) const override { return {}; }
  base::AttentionWeighting Weighting(uint32_t) const override { return {}; }
  base::Position FirstObservedRow(base::Position prompt_tokens) const override;
  float ObservationGain(uint32_t step) const override;
  RetentionState NewState(uint32_t layers) const override;
  uint32_t MostLiveTokens(uint32_t, uint32_t total_tokens) const override { return total_tokens; }
  base::Tick prompt_ticks() const override;

 protected:
  explicit FadingPolicy(const base::MemoryParameters& parameters) : parameters_(parameters) {}
  const base::MemoryParameters& parameters() const { return parameters_; }

 private:
  const base::MemoryParameters parameters_;
};

}  // namespace ebbinghaus::memory
