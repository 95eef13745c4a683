#include "server/cache/kv_cache.h"

#include <algorithm>
#include <utility>

#include "server/base/check.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::cache {

void LayerCache::Attach(std::vector<Page> pages, base::Slot live) {
  EBB_CHECK(live_ == 0 && pages.size() == pool_->shape().PagesFor(live));
  pages_ = std::move(pages);
  page_bytes_.clear();
  for (const Page& page : pages_) page_bytes_.push_back(page.bytes());
  live_ = live;
}

// Copy on write: whoever else holds the page keeps what it had.
absl::Status LayerCache::MakeOwn(size_t index) {
  Page& page = pages_[index];
  if (!page.shared()) return absl::OkStatus();
  absl::StatusOr<Page> own = pool_->Acquire(account_);
  if (!own.ok()) {
    // Sequences hold every page there is. Were this one another sequence's too, they would hold fewer pages than they count,
    // and one would be left; so it is only the cache's, which must let go of it.
    while (page.shared() && pool_->Reclaim()) {
    }
    return page.shared() ? own.status() : absl::OkStatus();
  }
  if (!page.shared()) return absl::OkStatus();  // what was reclaimed for the copy was the other hold
  own->CopyFrom(page);
  page = *std::move(own);
  page_bytes_[index] = page.bytes();
  return absl::OkStatus();
}

absl::Status LayerCache::Grow(base::Slot count) {
  std::vector<Page> added;
  for (uint64_t need = pool_->shape().PagesFor(live_ + count) - pages_.size(); need > 0; --need) {
    EBB_ASSIGN_OR_RETURN(Page page, pool_->Acquire(account_));
    added.push_back(std::move(page));
  }
  if (count > 0 && live_ % pool_->shape().page_tokens != 0) EBB_RETURN_IF_ERROR(MakeOwn(pages_.size() - 1));
  for (Page& page : added) {
    page_bytes_.push_back(page.bytes());
    pages_.push_back(std::move(page));
  }
  live_ += count;
  return absl::OkStatus();
}

absl::Status LayerCache::Append(const at::Tensor& keys, const at::Tensor& values) {
  const int64_t page_tokens = pool_->shape().page_tokens;
  const int64_t count = keys.size(0);
  int64_t slot = live_;
  EBB_RETURN_IF_ERROR(Grow(static_cast<base::Slot>(count)));
  const at::Tensor k = keys.transpose(0, 1), v = values.transpose(0, 1);  // [K, T, D]
  for (int64_t done = 0; done < count;) {
    const int64_t offset = slot % page_tokens;
    const int64_t n = std::min(count - done, page_tokens - offset);
    const Page& page = pages_[slot / page_tokens];
    page.keys().narrow(1, offset, n).copy_(k.narrow(1, done, n));
    page.values().narrow(1, offset, n).copy_(v.narrow(1, done, n));
    done += n;
    slot += n;
  }
  return absl::OkStatus();
}

void LayerCache::Remove(const base::SlotRemovalPlan& plan) {
  const int64_t page_tokens = pool_->shape().page_tokens;
  for (const base::SlotMove& move : plan.moves) {
    EBB_CHECK(MakeOwn(move.to / page_tokens).ok());
    const Page& from = pages_[move.from / page_tokens];
    const Page& to = pages_[move.to / page_tokens];
    if (pool_->shape().packed) {
      kernels::CopyToken(*pool_->shape().packed, from.bytes(), move.from % page_tokens, to.bytes(), move.to % page_tokens);
      continue;
    }
    to.keys().select(1, move.to % page_tokens).copy_(from.keys().select(1, move.from % page_tokens));
    to.values().select(1, move.to % page_tokens).copy_(from.values().select(1, move.from % page_tokens));
  }
  live_ = plan.live_after;
  const size_t needed = pool_->shape().PagesFor(live_);
  pages_.erase(pages_.begin() + needed, pages_.end());
  page_bytes_.resize(needed);
}

int64_t LayerCache::SlotsInPage(size_t page) const {
  const int64_t page_tokens = pool_->shape().page_tokens;
  return std::min<int64_t>(page_tokens, live_ - static_cast<int64_t>(page) * page_tokens);
}

at::Tensor LayerCache::Keys(size_t page) const { return pages_[page].keys().narrow(1, 0, SlotsInPage(page)); }

at::Tensor LayerCache::Values(size_t page) const { return pages_[page].values().narrow(1, 0, SlotsInPage(page)); }

KvCache::KvCache(PagePool* pool, uint32_t layers, Account account) : pool_(pool) {
  layers_.reserve(layers);
  for (uint32_t l = 0; l < layers; ++l) layers_.emplace_back(pool, account);
}

base::Slot KvCache::max_live() const {
  base::Slot most = 0;
  for (const LayerCache& layer : layers_) most = std::max(most, layer.live());
  return most;
}

uint64_t KvCache::bytes() const {
  uint64_t pages = 0;
  for (const LayerCache& layer : layers_) pages += layer.page_count();
  return pages * pool_->shape().page_bytes();
}

}  // namespace ebbinghaus::cache
