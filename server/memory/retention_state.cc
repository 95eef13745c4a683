#include "server/memory/retention_state.h"

#include <algorithm>
#include <limits>

#include "server/base/check.h"

namespace ebbinghaus::memory {
namespace {

float Cap(const UpdateRule& rule) {
  return rule.strength_cap > 0 ? rule.strength_cap : std::numeric_limits<float>::infinity();
}

// By an eighth, not by half: admission counts on it (engine::Sequence::StateBytes).
void Grow(LayerState& layer) {
  const size_t size = layer.strength.size();
  const size_t more = size + std::max<size_t>(64, size / 8);
  layer.strength.reserve(more);
  layer.last_reset.reserve(more);
  layer.born.reserve(more);
  layer.position.reserve(more);
}

// S never falls (spec I2), whatever a broken kernel hands in: the comparison is false for NaN.
float Strengthened(float strength, float gained, float cap) {
  return std::min(strength + (gained > 0 ? gained : 0), cap);
}

}  // namespace

RetentionState::RetentionState(uint32_t layers, UpdateRule rule) : rule_(rule), layers_(layers) {
  EBB_CHECK(rule.initial_strength > 0 && rule.reset_threshold > 0);
  EBB_CHECK(rule.strength_cap == 0 || rule.strength_cap >= rule.initial_strength);
}

base::Slot RetentionState::max_live() const {
  base::Slot most = 0;
  for (const LayerState& layer : layers_) most = std::max(most, layer.live());
  return most;
}

void RetentionState::Append(base::Position position, base::Tick now) {
  EBB_CHECK(position == next_position_);
  ++next_position_;
  for (LayerState& layer : layers_) {
    if (layer.strength.size() == layer.strength.capacity()) Grow(layer);
    layer.strength.push_back(rule_.initial_strength);
    layer.last_reset.push_back(now);
    layer.born.push_back(now);
    layer.position.push_back(position);
  }
}

void RetentionState::Remove(uint32_t layer, const base::SlotRemovalPlan& plan) {
  LayerState& state = layers_[layer];
  EBB_CHECK(plan.live_before == state.live());
  base::ApplyRemoval(plan, state.strength);
  base::ApplyRemoval(plan, state.last_reset);
  base::ApplyRemoval(plan, state.born);
  base::ApplyRemoval(plan, state.position);
  if (layer < forget_bounds_.sets.size()) {
    ExpiryIndex& bounds = forget_bounds_.sets[layer];
    while (bounds.size() < plan.live_before) bounds.Append(ExpiryIndex::kUnknown);
    bounds.Remove(plan);
  }
}

void RetentionState::Observe(uint32_t layer, absl::Span<const float> mass, float gain,
                             base::Tick now) {
  LayerState& state = layers_[layer];
  EBB_CHECK(mass.size() <= state.live());
  const float cap = Cap(rule_), threshold = rule_.reset_threshold;
  float* const strength = state.strength.data();
  base::Tick* const last_reset = state.last_reset.data();
  for (size_t slot = 0; slot < mass.size(); ++slot) {
    strength[slot] = Strengthened(strength[slot], gain * mass[slot], cap);
    last_reset[slot] = mass[slot] >= threshold ? now : last_reset[slot];
  }
}

void RetentionState::ObserveRows(uint32_t layer, absl::Span<const float> mass_sum,
                                 absl::Span<const base::Tick> last_reset_tick) {
  LayerState& state = layers_[layer];
  EBB_CHECK(mass_sum.size() <= state.live() && mass_sum.size() == last_reset_tick.size());
  const float cap = Cap(rule_);
  for (size_t slot = 0; slot < mass_sum.size(); ++slot) {
    state.strength[slot] = Strengthened(state.strength[slot], mass_sum[slot], cap);
    if (last_reset_tick[slot] >= 0) state.last_reset[slot] = last_reset_tick[slot];
  }
}

}  // namespace ebbinghaus::memory
