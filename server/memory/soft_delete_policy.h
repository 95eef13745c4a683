// GenerationMode::kSoftDelete: fading tokens weigh less in the first layers, none is forgotten
// (memory-spec 4.2).
#pragma once

#include "server/memory/fading_policy.h"

namespace ebbinghaus::memory {

class SoftDeletePolicy final : public FadingPolicy {
 public:
  SoftDeletePolicy(const base::MemoryParameters& parameters, uint32_t layers);

  base::AttentionWeighting Weighting(uint32_t layer) const override;

 private:
  const uint32_t weighted_layers_;  // the layers below it fade
};

}  // namespace ebbinghaus::memory
