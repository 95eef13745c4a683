// Who takes part in the next step: a pure function from a snapshot to a plan.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/base/engine.h"
#include "server/base/ids.h"

namespace ebbinghaus::scheduler {

// What the planner knows of a sequence.
struct SequenceView {
  base::SequenceId sequence{};
  uint32_t unread_prompt_tokens = 0;  // 0: it decodes
  uint64_t last_read_step = 0;        // the step that last read some of its prompt; 0 = none yet
  bool paused = false;                // its reader does not keep up
};

struct PlanLimits {
  uint32_t prompt_chunk_tokens = 256;  // >= 1
};

// The next step: one token for every sequence that decodes, and one chunk of prompt for the reading sequence whose turn
// is longest ago (of equals, the first in `sequences`). So neither a long prompt nor many decoding sequences can starve
// anybody: each step serves all who decode, and of k readers each is served every k-th step. Paused sequences sit out.
// Empty only if nobody can run. In the order of `sequences`, each at most once.
std::vector<base::StepItem> PlanStep(absl::Span<const SequenceView> sequences, const PlanLimits& limits);

}  // namespace ebbinghaus::scheduler
