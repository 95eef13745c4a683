#include "server/base/removal_plan.h"

#include "server/base/check.h"

namespace ebbinghaus::base {

SlotRemovalPlan PlanRemoval(absl::Span<const Slot> removed, Slot live) {
  EBB_CHECK(removed.size() <= live);
  for (size_t i = 1; i < removed.size(); ++i) EBB_CHECK(removed[i - 1] < removed[i]);
  EBB_CHECK(removed.empty() || removed.back() < live);

  SlotRemovalPlan plan{
      .live_before = live, .live_after = live - static_cast<Slot>(removed.size()), .moves = {}};
  // Two cursors walk towards each other: holes from the front, survivors from the back. `unpassed`
  // counts the removed slots at or below the back cursor; the hole being filled is one of them, so
  // it stays >= 1.
  Slot source = live;
  size_t unpassed = removed.size();
  for (const Slot hole : removed) {
    if (hole >= plan.live_after) break;
    --source;
    while (removed[unpassed - 1] == source) {
      --unpassed;
      --source;
    }
    plan.moves.push_back({.from = source, .to = hole});
  }
  return plan;
}

}  // namespace ebbinghaus::base
