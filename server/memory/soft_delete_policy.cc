#include "server/memory/soft_delete_policy.h"

#include "server/memory/layer_fraction.h"

namespace ebbinghaus::memory {
namespace {

// Whether every weight is exactly 1 at any time: nothing may fade, or time stands still so that R
// = 1.
bool NeverFades(const base::MemoryParameters& p) {
  return p.soft_ceiling == 1 && (p.soft_floor == 1 || p.time_step == 0);
}

}  // namespace

SoftDeletePolicy::SoftDeletePolicy(const base::MemoryParameters& parameters, uint32_t layers)
    : FadingPolicy(parameters),
      weighted_layers_(
          NeverFades(parameters) ? 0 : FloorFraction(parameters.soft_layer_ratio, layers)) {}

base::AttentionWeighting SoftDeletePolicy::Weighting(uint32_t layer) const {
  using Form = base::AttentionWeighting::Form;
  if (layer >= weighted_layers_) return {};
  const base::MemoryParameters& p = parameters();
  return {.form = p.soft_form == base::SoftForm::kLogBias ? Form::kLogBias : Form::kKvScale,
          .time_step = p.time_step,
          .floor = p.soft_floor,
          .ceiling = p.soft_ceiling};
}

}  // namespace ebbinghaus::memory
