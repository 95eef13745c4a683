// Strength and last reset of every live token in every layer, by slot (memory-spec 2.3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/base/generation.h"
#include "server/base/ids.h"
#include "server/base/removal_plan.h"
#include "server/memory/expiry_index.h"

namespace ebbinghaus::memory {

// One layer's live tokens: parallel dense arrays, indexed by slot exactly like the layer's K/V
// cache.
struct LayerState {
  std::vector<float> strength;           // [N] S > 0, never falls
  std::vector<base::Tick> last_reset;    // [N] a, in ticks
  std::vector<base::Tick> born;          // [N]
  std::vector<base::Position> position;  // [N]

  base::Slot live() const { return static_cast<base::Slot>(strength.size()); }
};

struct UpdateRule {
  float initial_strength = 5.0f;
  float reset_threshold = 0.01f;
  float strength_cap = 0;  // 0 = none
};

// Plain state, one owner, not thread safe (not even for two readers: Forget refreshes the bounds it
// keeps here).
class RetentionState {
 public:
  // What a forgetting policy knows of the live sets from earlier decisions; a cache, never more
  // than that. `parameters` say whose it is, so that a policy with others starts afresh.
  struct ForgetBounds {
    base::MemoryParameters parameters;
    std::vector<ExpiryIndex>
        sets;  // [L] when each layer forgets for itself, [1] when all forget together
  };

  RetentionState(uint32_t layers, UpdateRule rule);

  // About the most that a token takes in a layer, spare room for growth included.
  static constexpr size_t kBytesPerToken = 2 * sizeof(base::Tick) + sizeof(float) + sizeof(base::Position) + 2;

  uint32_t layers() const { return static_cast<uint32_t>(layers_.size()); }
  const LayerState& layer(uint32_t l) const { return layers_[l]; }
  base::Slot max_live() const;  // over layers

  // How many tokens were ever appended, which is the position of the next newborn.
  base::Position next_position() const { return next_position_; }

  // A newborn takes the next slot of every layer: S = initial_strength, a = now. Requires: position
  // == next_position().
  void Append(base::Position position, base::Tick now);

  // Frees slots; the same plan goes to the K/V of this layer. Requires: plan.live_before ==
  // layer(layer).live().
  void Remove(uint32_t layer, const base::SlotRemovalPlan& plan);

  // One observed row at clock `now` (spec 3): S += gain * mass, capped; a = now where mass (without
  // the gain) >= reset_threshold. A row seen before later newborns existed is shorter than live():
  // the slots beyond it are untouched. Mass that is no probability (negative, NaN) counts as 0.
  // Requires: mass.size() <= live(), `now` not before any earlier one.
  void Observe(uint32_t layer, absl::Span<const float> mass, float gain, base::Tick now);

  // Many prompt rows at once: `mass_sum` is each slot's mass summed over the rows,
  // `last_reset_tick` the clock of the last row whose mass reached reset_threshold, or a negative
  // number for none. Equal to Observe row by row with gain 1, up to the rounding of the sum.
  // Requires: both as long as each other, at most live().
  void ObserveRows(uint32_t layer, absl::Span<const float> mass_sum,
                   absl::Span<const base::Tick> last_reset_tick);

  ForgetBounds& forget_bounds() const { return forget_bounds_; }

 private:
  UpdateRule rule_;
  std::vector<LayerState> layers_;
  base::Position next_position_ = 0;
  mutable ForgetBounds forget_bounds_;
};

}  // namespace ebbinghaus::memory
