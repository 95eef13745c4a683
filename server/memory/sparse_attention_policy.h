// GenerationMode::kSparseAttention: tokens whose retention has fallen below the threshold leave the
// cache, and a budget keeps it small (memory-spec 4.3 to 4.5).
#pragma once

#include <vector>

#include "server/memory/fading_policy.h"

namespace ebbinghaus::memory {

class SparseAttentionPolicy final : public FadingPolicy {
 public:
  SparseAttentionPolicy(const base::MemoryParameters& parameters, uint32_t layers);

  // Constant time per live set while nothing can happen; else it looks at the tokens near their
  // expiry.
  ForgetDecision Forget(const RetentionState& state, base::Tick now) const override;
  uint32_t MostLiveTokens(uint32_t prompt_tokens, uint32_t total_tokens) const override;

 private:
  // The layers [first, last) decide together over one live set: forgotten is what at least `needed`
  // of them want gone.
  struct Electorate {
    uint32_t first = 0;
    uint32_t last = 0;
    uint32_t needed = 1;
  };
  class LiveSet;  // one live set at one decision

  std::vector<ExpiryIndex>& Bounds(const RetentionState& state) const;
  bool AlwaysKept(base::Position position) const;  // sinks and pins
  void ForgetInLayer(const RetentionState& state, uint32_t layer, ExpiryIndex& bounds,
                     base::Tick now, ForgetDecision& decision) const;
  void ForgetInAll(const RetentionState& state, ExpiryIndex& bounds, base::Tick now,
                   ForgetDecision& decision) const;

  const uint32_t layers_;
  const Electorate consensus_;
  const double log_threshold_;  // ln(1 / forget_threshold)
};

}  // namespace ebbinghaus::memory
