#include "server/scheduler/planner.h"

#include <algorithm>

namespace ebbinghaus::scheduler {

std::vector<base::StepItem> PlanStep(absl::Span<const SequenceView> sequences, const PlanLimits& limits) {
  const SequenceView* reader = nullptr;
  for (const SequenceView& view : sequences) {
    if (view.paused || view.unread_prompt_tokens == 0) continue;
    if (reader == nullptr || view.last_read_step < reader->last_read_step) reader = &view;
  }
  std::vector<base::StepItem> plan;
  for (const SequenceView& view : sequences) {
    if (view.paused || (view.unread_prompt_tokens > 0 && &view != reader)) continue;
    plan.push_back({view.sequence, std::min(view.unread_prompt_tokens, limits.prompt_chunk_tokens)});
  }
  return plan;
}

}  // namespace ebbinghaus::scheduler
