// How slots leave a dense array: the same plan is applied to K, V and memory state
// (memory-spec 4.5).
#pragma once

#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"

namespace ebbinghaus::base {

struct SlotMove {
  Slot from = 0;
  Slot to = 0;
};

// Slots [0, live_before) become [0, live_after). Each hole below live_after is filled by one
// survivor from above it, so a removal copies exactly one token per such hole; sources are >=
// live_after and targets below it, so the moves never overlap and may run in any order.
struct SlotRemovalPlan {
  Slot live_before = 0;
  Slot live_after = 0;
  std::vector<SlotMove>
      moves;  // by rising target and falling source: the last slot fills the first hole

  bool empty() const { return live_before == live_after; }
};

// Requires: `removed` strictly ascending, every entry < live.
SlotRemovalPlan PlanRemoval(absl::Span<const Slot> removed, Slot live);

// Applies the plan to one dense array. Requires: exactly live_before entries.
template <typename T>
void ApplyRemoval(const SlotRemovalPlan& plan, std::vector<T>& values) {
  for (const SlotMove& move : plan.moves) values[move.to] = values[move.from];
  values.resize(plan.live_after);
}

}  // namespace ebbinghaus::base
