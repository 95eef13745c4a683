// What a mode decides: what to forget, how to weigh, whether to observe. A mode is one of these, chosen at admission;
// the engine never asks which.
#pragma once

#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "server/base/generation.h"
#include "server/base/removal_plan.h"
#include "server/base/retention.h"
#include "server/memory/retention_state.h"

namespace ebbinghaus::memory {

// One token leaving one layer (per_layer) or all of them (consensus).
struct Forgotten {
  base::Position position = 0;
  uint32_t votes = 0;
  std::optional<uint32_t> layer;
  base::Tick age_ticks = 0;  // since birth
  double retention = 0;      // now, mean over the layers that lose it
};

// What one step forgets. `plans` is empty when nothing goes, else one plan per layer, to be applied to K/V and state.
struct ForgetDecision {
  std::vector<base::SlotRemovalPlan> plans;  // [L] or empty
  std::vector<Forgotten> forgotten;          // by layer, then rising position
};

// Which prompt rows and which decode steps strengthen memory.
struct PromptRows {
  base::Position first_observed = 0;  // rows [first_observed, prompt) are observed
};

// Immutable; shared between sequences only by value of its parameters.
class MemoryPolicy {
 public:
  virtual ~MemoryPolicy() = default;

  // False: no state is kept and nothing observed (baseline).
  virtual bool keeps_state() const = 0;

  // The forget decision at clock `now`, before the newborn is appended (spec 2.5, 4.3, 4.4).
  virtual ForgetDecision Forget(const RetentionState& state, base::Tick now) const = 0;

  // How decode attention of `layer` weighs its slots.
  virtual base::AttentionWeighting Weighting(uint32_t layer) const = 0;

  // First observed prompt row of a prompt of this many tokens; == prompt_tokens when none is (spec 3).
  virtual base::Position FirstObservedRow(base::Position prompt_tokens) const = 0;

  // What decode step `step` (>= 1) multiplies the observed mass by: 0 = the step is not observed.
  virtual float ObservationGain(uint32_t step) const = 0;

  // The state a new sequence starts with. Requires: keeps_state().
  virtual RetentionState NewState(uint32_t layers) const = 0;

  // The most tokens a layer can hold at any time for a prompt of this size and `total_tokens` in all (spec 4.4: the larger
  // of prompt and budget). What admission reserves.
  virtual uint32_t MostLiveTokens(uint32_t prompt_tokens, uint32_t total_tokens) const = 0;

  // The clock's gain per prompt token.
  virtual base::Tick prompt_ticks() const = 0;
};

std::unique_ptr<const MemoryPolicy> MakePolicy(base::GenerationMode mode, const base::MemoryParameters& parameters,
                                               uint32_t layers);

}  // namespace ebbinghaus::memory
