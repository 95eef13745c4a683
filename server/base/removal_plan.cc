#include "server/base/removal_plan.h"

namespace ebbinghaus::base {

SlotRemovalPlan PlanRemoval(absl::Span<const Slot> removed, Slot live) {
  SlotRemovalPlan plan;
  plan.live_before = live;
  plan.live_after = live - static_cast<Slot>(removed.size());
  size_t last_hole = removed.size();  // removed[last_hole..) have been passed from the back
  Slot source = live;
  for (Slot hole : removed) {
    if (hole >= plan.live_after) break;
    do {  // the highest survivor not used yet
      --source;
      while (last_hole > 0 && removed[last_hole - 1] > source) --last_hole;
    } while (last_hole > 0 && removed[last_hole - 1] == source);
    plan.moves.push_back({.from = source, .to = hole});
  }
  return plan;
}

}  // namespace ebbinghaus::base
