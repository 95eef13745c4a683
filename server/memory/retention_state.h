// Strength and last reset of every live token in every layer, by slot (memory-spec 2.3).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/base/removal_plan.h"

namespace ebbinghaus::memory {

// One layer's live tokens: parallel dense arrays, indexed by slot exactly like the layer's K/V cache.
struct LayerState {
  std::vector<float> strength;            // [N] S
  std::vector<base::Tick> last_reset;     // [N] a, in ticks
  std::vector<base::Tick> born;           // [N]
  std::vector<base::Position> position;   // [N]

  base::Slot live() const { return static_cast<base::Slot>(strength.size()); }
};

struct UpdateRule {
  float initial_strength = 5.0f;
  float reset_threshold = 0.01f;
  float strength_cap = 0;  // 0 = none
};

// Plain state, one owner, not thread safe.
class RetentionState {
 public:
  RetentionState(uint32_t layers, UpdateRule rule);

  uint32_t layers() const { return static_cast<uint32_t>(layers_.size()); }
  const LayerState& layer(uint32_t l) const { return layers_[l]; }
  base::Slot max_live() const;  // over layers

  // A newborn takes the next slot of every layer: S = initial_strength, a = now.
  void Append(base::Position position, base::Tick now);

  // Frees slots; the same plan goes to the K/V of this layer.
  void Remove(uint32_t layer, const base::SlotRemovalPlan& plan);

  // One observed row at clock `now` (spec 3): S += gain * mass, capped; a = now where mass >= reset_threshold. A row seen
  // before later newborns existed is shorter than live(): the slots beyond it are untouched.
  void Observe(uint32_t layer, absl::Span<const float> mass, float gain, base::Tick now);

  // Many prompt rows at once: `mass_sum` is each slot's mass summed over the rows, `last_reset_row` the clock of the
  // last row whose mass reached reset_threshold, or a negative number for none. Equal to Observe row by row.
  void ObserveRows(uint32_t layer, absl::Span<const float> mass_sum, absl::Span<const base::Tick> last_reset_tick);

 private:
  UpdateRule rule_;
  std::vector<LayerState> layers_;
};

}  // namespace ebbinghaus::memory
