// What a mode decides: what to forget, how to weigh, whether to observe. A mode is one of these,
// chosen at admission; the engine never asks which.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "server/base/generation.h"
#include "server/base/removal_plan.h"
#include "server/base/retention.h"
#include "server/memory/retention_state.h"

namespace ebbinghaus::memory {

// One token leaving one layer (per_layer) or all of them (consensus).
struct Forgotten {
  base::Position position = 0;
  uint32_t votes = 0;             // voting layers that want it gone (per_layer: its own, 0 or 1)
  std::optional<uint32_t> layer;  // set under per_layer
  base::Tick age_ticks = 0;       // since birth
  double retention = 0;           // now, mean over the layers that lose it
};

// What one step forgets. `plans` is empty when nothing goes, else one plan per layer, to be applied
// to K/V and state.
struct ForgetDecision {
  std::vector<base::SlotRemovalPlan> plans;  // [L] or empty
  std::vector<Forgotten> forgotten;          // by layer, then rising position
};

// Immutable. It may serve any number of sequences on one thread; a state must only ever be shown to
// policies of the same parameters if their answers are to be fast.
//
// Adding a mode: a class of this kind in a file of its own (FadingPolicy gives what the memory
// modes share), one line in MakePolicy, its name in base::GenerationMode, and its proto value in
// rpc's conversion.
class MemoryPolicy {
 public:
  virtual ~MemoryPolicy() = default;

  // False: no state is kept and nothing observed (baseline).
  virtual bool keeps_state() const = 0;

  // The forget decision at clock `now`, before the newborn is appended (spec 2.5, 4.3, 4.4). It may
  // cache what it learned in `state`, and is right whether or not the caller then removes what it
  // names. Requires: a state of NewState, `now` not before any earlier one.
  virtual ForgetDecision Forget(const RetentionState& state, base::Tick now) const = 0;

  // How decode attention of `layer` weighs its slots. The prompt is always read at weight 1
  // (spec 2.2, 6.4).
  virtual base::AttentionWeighting Weighting(uint32_t layer) const = 0;

  // First observed prompt row of a prompt of this many tokens; == prompt_tokens when none is (spec
  // 3).
  virtual base::Position FirstObservedRow(base::Position prompt_tokens) const = 0;

  // What decode step `step` (>= 1) multiplies the observed mass by: 0 = the step is not observed.
  virtual float ObservationGain(uint32_t step) const = 0;

  // The state a new sequence starts with. Requires: keeps_state().
  virtual RetentionState NewState(uint32_t layers) const = 0;

  // The most tokens a layer can hold at any time for a prompt of this size and `total_tokens` in
  // all (spec 4.4: the larger of prompt and budget). What admission reserves.
  virtual uint32_t MostLiveTokens(uint32_t prompt_tokens, uint32_t total_tokens) const = 0;

  // The clock's gain per prompt token.
  virtual base::Tick prompt_ticks() const = 0;
};

std::unique_ptr<const MemoryPolicy> MakePolicy(base::GenerationMode mode,
                                               const base::MemoryParameters& parameters,
                                               uint32_t layers);

}  // namespace ebbinghaus::memory
