#include "server/memory/retention_state.h"

#include <algorithm>

namespace ebbinghaus::memory {

RetentionState::RetentionState(uint32_t layers, UpdateRule rule) : rule_(rule), layers_(layers) {}

base::Slot RetentionState::max_live() const {
  base::Slot most = 0;
  for (const LayerState& layer : layers_) most = std::max(most, layer.live());
  return most;
}

void RetentionState::Append(base::Position position, base::Tick now) {
  for (LayerState& layer : layers_) {
    layer.strength.push_back(rule_.initial_strength);
    layer.last_reset.push_back(now);
    layer.born.push_back(now);
    layer.position.push_back(position);
  }
}

void RetentionState::Remove(uint32_t layer, const base::SlotRemovalPlan& plan) {
  LayerState& state = layers_[layer];
  base::ApplyRemoval(plan, state.strength);
  base::ApplyRemoval(plan, state.last_reset);
  base::ApplyRemoval(plan, state.born);
  base::ApplyRemoval(plan, state.position);
}

void RetentionState::Observe(uint32_t layer, absl::Span<const float> mass, float gain, base::Tick now) {
  LayerState& state = layers_[layer];
  for (size_t slot = 0; slot < mass.size(); ++slot) {
    float strength = state.strength[slot] + gain * mass[slot];
    if (rule_.strength_cap > 0) strength = std::min(strength, rule_.strength_cap);
    state.strength[slot] = strength;
    if (mass[slot] >= rule_.reset_threshold) state.last_reset[slot] = now;
  }
}

void RetentionState::ObserveRows(uint32_t layer, absl::Span<const float> mass_sum, absl::Span<const base::Tick> last_reset_tick) {
  LayerState& state = layers_[layer];
  for (size_t slot = 0; slot < mass_sum.size(); ++slot) {
    float strength = state.strength[slot] + mass_sum[slot];
    if (rule_.strength_cap > 0) strength = std::min(strength, rule_.strength_cap);
    state.strength[slot] = strength;
    if (last_reset_tick[slot] >= 0) state.last_reset[slot] = last_reset_tick[slot];
  }
}

}  // namespace ebbinghaus::memory
