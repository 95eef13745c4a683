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
  uint64_t last_read_step = 0;        // the step that last read some of its prompt; before that, the one it came after
  bool paused = false;                // its reader does not keep up
};

// The next step: one token for every sequence that decodes, and `prompt_tokens` (>= 1) of the prompts that are unread.
// One half of these goes to the prompts that are soonest done, the other to the one whose turn is longest ago (of equals,
// the first in `sequences`), and what that one does not need to the former again. So a short prompt never waits for a long
// one to end, and of k readers each gets its half at least every k-th step. Paused sequences sit out. Empty only if nobody
// can run. In the order of `sequences`, each at most once.
std::vector<base::StepItem> PlanStep(absl::Span<const SequenceView> sequences, uint32_t prompt_tokens);

}  // namespace ebbinghaus::scheduler
