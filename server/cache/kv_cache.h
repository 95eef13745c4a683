// One sequence's keys and values by slot: every layer has its own live slots and its own pages, so a layer may forget
// alone (memory-spec 4.3, per_layer).
#pragma once

#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/base/removal_plan.h"
#include "server/cache/page_pool.h"

namespace ebbinghaus::cache {

// Slots [0, live) are dense: page i holds slots [i * page_tokens, (i + 1) * page_tokens). Stored K/V are
// pristine: rotary position applied, never scaled by a memory weight (spec 1).
class LayerCache {
 public:
  explicit LayerCache(PagePool* pool, Account account = 0) : pool_(pool), account_(account) {}

  base::Slot live() const { return live_; }
  size_t page_count() const { return pages_.size(); }

  // Begins with slots that are there already, in pages that may be others' too. Requires: nothing is live; as many pages
  // as `live` slots need.
  void Attach(std::vector<Page> pages, base::Slot live);

  // Appends the newborns' keys and values, both [T, K, D] in any float type, in slots live()...live()+T-1.
  // Requires: a pool of tensors. Errors: ResourceExhausted; then nothing was appended.
  absl::Status Append(const at::Tensor& keys, const at::Tensor& values);

  // Makes room for `count` newborns, in slots live()...live()+count-1, which the caller then writes.
  // Errors: ResourceExhausted; then nothing has changed.
  absl::Status Grow(base::Slot count);

  // Copies one token per hole, then gives emptied pages back (spec 4.5). Pages that others hold too are replaced by copies
  // before they are written in. Requires: plan.live_before == live(); a pool in which sequences keep to what they reserved.
  void Remove(const base::SlotRemovalPlan& plan);

  const Page& page(size_t index) const { return pages_[index]; }

  // Of packed pages: [page_count()], valid until the next Grow or Remove.
  std::byte* const* page_bytes() const { return page_bytes_.data(); }

  // The live part of page i, of a pool of tensors.
  at::Tensor Keys(size_t page) const;    // [K, slots in page, D]
  at::Tensor Values(size_t page) const;  // [K, slots in page, D]

 private:
  int64_t SlotsInPage(size_t page) const;
  absl::Status MakeOwn(size_t page);

  PagePool* pool_;
  Account account_;
  std::vector<Page> pages_;
  std::vector<std::byte*> page_bytes_;  // of pages_, where they are packed
  base::Slot live_ = 0;
};

class KvCache {
 public:
  KvCache(PagePool* pool, uint32_t layers, Account account = 0);

  LayerCache& layer(uint32_t l) { return layers_[l]; }
  const LayerCache& layer(uint32_t l) const { return layers_[l]; }
  uint32_t layers() const { return static_cast<uint32_t>(layers_.size()); }

  base::Slot max_live() const;  // over layers
  uint64_t bytes() const;       // pages owned * page size (spec I17)

 private:
  PagePool* pool_;
  std::vector<LayerCache> layers_;
};

}  // namespace ebbinghaus::cache
