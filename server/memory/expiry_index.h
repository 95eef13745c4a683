// Finds the tokens that may expire without looking at all of them at every step.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

#include "server/base/ids.h"
#include "server/base/removal_plan.h"

namespace ebbinghaus::memory {

// A lower bound on each slot's expiry, indexed by slot like the live set it belongs to. Since a
// token's expiry never decreases (memory-spec I5), a bound stays right however much the token is
// strengthened after it was computed; it only becomes loose, and is refreshed when time comes near
// it. Bounds are summed up by block of slots and over all, so a step at which nothing can happen
// costs one comparison.
//
// Plain state, one owner, not thread safe.
class ExpiryIndex {
 public:
  static constexpr size_t kBlockSlots = 64;
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  static constexpr double kUnknown = -std::numeric_limits<double>::infinity();

  base::Slot size() const { return static_cast<base::Slot>(bounds_.size()); }
  double bound(base::Slot slot) const { return bounds_[slot]; }
  double lowest() const { return lowest_; }  // <= every bound; kNever when empty

  // The next slot. `bound` <= its expiry; kUnknown is always right, kNever takes the slot out of
  // every search.
  void Append(double bound);

  // Follows the live set. Requires: plan.live_before == size().
  void Remove(const base::SlotRemovalPlan& plan);

  // Calls refresh(slot) for every slot whose bound is <= horizon, and keeps what it returns as the
  // slot's bound: its expiry now, or the bound itself. Blocks are visited from the one that holds
  // the lowest bound on, round to it again. `refresh` may lower `horizon` while the search runs (to
  // the worst of the best found so far), never raise it.
  template <typename Refresh>
  void Search(const double& horizon, Refresh refresh) {
    if (lowest_ > horizon) return;
    const size_t blocks = block_bounds_.size();
    const size_t first = LowestBlock();
    for (size_t i = 0; i < blocks; ++i) {
      const size_t block = first + i < blocks ? first + i : first + i - blocks;
      if (block_bounds_[block] > horizon) continue;
      const size_t end = std::min(bounds_.size(), (block + 1) * kBlockSlots);
      double lowest = kNever;
      for (size_t slot = block * kBlockSlots; slot < end; ++slot) {
        if (bounds_[slot] <= horizon) bounds_[slot] = refresh(static_cast<base::Slot>(slot));
        lowest = std::min(lowest, bounds_[slot]);
      }
      block_bounds_[block] = lowest;
    }
    lowest_ = block_bounds_.empty() ? kNever : block_bounds_[LowestBlock()];
  }

 private:
  size_t LowestBlock() const;

  std::vector<double> bounds_;        // [N]
  std::vector<double> block_bounds_;  // [ceil(N / kBlockSlots)], <= every bound of the block
  double lowest_ = kNever;            // <= every bound
};

}  // namespace ebbinghaus::memory
