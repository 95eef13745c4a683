#include "server/cache/page_pool.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include <ATen/ops/zeros.h>

#include "absl/strings/str_cat.h"
#include "server/base/check.h"

namespace ebbinghaus::cache {

namespace {

constexpr uint64_t kSlabBytes = uint64_t{8} << 20;

}  // namespace

uint64_t PageShape::page_bytes() const {
  if (packed) return static_cast<uint64_t>(packed->page_bytes());
  return 2ull * kv_heads * page_tokens * head_size * c10::elementSize(dtype);
}

PageShape PackedShape(const kernels::KvLayout& layout) {
  return {.kv_heads = layout.kv_heads, .head_size = layout.head_size, .page_tokens = layout.page_tokens, .packed = layout};
}

Page::Page(PagePool* pool, Record* record, Account account) : pool_(pool), record_(record), account_(account) {
  pool_->Count(*record_, account_, +1);
}

Page::Page(Page&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)), record_(other.record_), account_(other.account_) {}

Page& Page::operator=(Page&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    record_ = other.record_;
    account_ = other.account_;
  }
  return *this;
}

Page::~Page() { Release(); }

void Page::Release() {
  if (pool_ == nullptr) return;
  std::exchange(pool_, nullptr)->Count(*record_, account_, -1);
}

Page Page::Share(Account account) const { return Page(pool_, record_, account); }

bool Page::shared() const { return std::accumulate(record_->holds.begin(), record_->holds.end(), 0u) > 1; }

const at::Tensor& Page::keys() const { return record_->keys; }

const at::Tensor& Page::values() const { return record_->values; }

std::byte* Page::bytes() const { return record_->bytes; }

void Page::CopyFrom(const Page& other) {
  EBB_CHECK(pool_ == other.pool_ && !shared());
  if (record_->bytes != nullptr) {
    std::memcpy(record_->bytes, other.record_->bytes, pool_->shape().page_bytes());
  } else {
    record_->storage.copy_(other.record_->storage);
  }
}

PagePool::PagePool(PageShape shape, uint64_t capacity_bytes)
    : shape_(shape), capacity_pages_(capacity_bytes / shape.page_bytes()) {}

PagePool::~PagePool() { EBB_CHECK(held_pages_ == 0); }

// The one place where pages change between used, cached and free.
void PagePool::Count(Page::Record& record, Account account, int change) {
  const auto charge = [&](int pages) {
    const auto charged = std::find_if(record.holds.begin(), record.holds.end(), [](uint32_t holds) { return holds > 0; });
    if (charged == record.holds.end()) return false;
    charged_pages_[charged - record.holds.begin()] += pages;
    held_pages_ += pages;
    return true;
  };
  charge(-1);
  record.holds[account] += change;
  if (!charge(+1)) free_.push_back(&record);
}

absl::StatusOr<Page> PagePool::Acquire(Account account) {
  while (free_pages() == 0) {
    if (cached_pages() > 0 && Reclaim()) continue;
    return absl::ResourceExhaustedError(
        absl::StrCat("K/V memory is full: all ", capacity_pages_, " pages of ", shape_.page_bytes(), " bytes are in use"));
  }
  return Page(this, TakeRecord(), account);
}

Page::Record* PagePool::TakeRecord() {
  if (!free_.empty()) {
    Page::Record* record = free_.back();
    free_.pop_back();
    // A kernel may read slots that are not live, at probability 0, and what a broken sequence left there (NaN) must not
    // reach the next one.
    if (record->bytes != nullptr) std::memset(record->bytes, 0, shape_.page_bytes());
    return record;
  }
  Page::Record made;
  if (shape_.packed) {
    made.bytes = CutBytes();
  } else {
    made.storage = at::zeros({2, shape_.kv_heads, shape_.page_tokens, shape_.head_size},
                             at::TensorOptions(shape_.dtype).device(shape_.device));
    made.keys = made.storage.select(0, 0);
    made.values = made.storage.select(0, 1);
  }
  return &records_.emplace_back(std::move(made));
}

std::byte* PagePool::CutBytes() {
  const uint64_t page_bytes = shape_.page_bytes();
  const uint64_t slab_pages = std::max<uint64_t>(1, kSlabBytes / page_bytes);
  if (slabs_.empty() || cut_pages_ == slab_pages) {
    slabs_.emplace_back(slab_pages * page_bytes);
    cut_pages_ = 0;
  }
  return slabs_.back().data() + cut_pages_++ * page_bytes;
}

}  // namespace ebbinghaus::cache
