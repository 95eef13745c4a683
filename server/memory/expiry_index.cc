#include "server/memory/expiry_index.h"

#include "server/base/check.h"

namespace ebbinghaus::memory {

void ExpiryIndex::Append(double bound) {
  if (bounds_.size() % kBlockSlots == 0) block_bounds_.push_back(kNever);
  bounds_.push_back(bound);
  block_bounds_.back() = std::min(block_bounds_.back(), bound);
  lowest_ = std::min(lowest_, bound);
}

void ExpiryIndex::Remove(const base::SlotRemovalPlan& plan) {
  EBB_CHECK(plan.live_before == size());
  for (const base::SlotMove& move : plan.moves) {
    bounds_[move.to] = bounds_[move.from];
    double& block = block_bounds_[move.to / kBlockSlots];
    block = std::min(block, bounds_[move.to]);  // what left the block may leave its bound loose
  }
  bounds_.resize(plan.live_after);
  block_bounds_.resize((plan.live_after + kBlockSlots - 1) / kBlockSlots);
  if (bounds_.empty()) lowest_ = kNever;
}

size_t ExpiryIndex::LowestBlock() const {
  return static_cast<size_t>(std::min_element(block_bounds_.begin(), block_bounds_.end()) -
                             block_bounds_.begin());
}

}  // namespace ebbinghaus::memory
