#include "server/cache/page_pool.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include <ATen/ops/zeros.h>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::cache {

uint64_t PageShape::page_bytes() const {
  return 2ull * kv_heads * page_tokens * head_size * c10::elementSize(dtype);
}

Page::Page(PagePool* pool, at::Tensor storage)
    : pool_(pool), storage_(std::move(storage)), keys_(storage_.select(0, 0)), values_(storage_.select(0, 1)) {}

Page::Page(Page&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      storage_(std::move(other.storage_)),
      keys_(std::move(other.keys_)),
      values_(std::move(other.values_)) {}

Page& Page::operator=(Page&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    storage_ = std::move(other.storage_);
    keys_ = std::move(other.keys_);
    values_ = std::move(other.values_);
  }
  return *this;
}

Page::~Page() { Release(); }

void Page::Release() {
  if (pool_ == nullptr) return;
  --pool_->used_pages_;
  pool_->free_.push_back(std::move(storage_));
  pool_ = nullptr;
}

PagePool::PagePool(PageShape shape, uint64_t capacity_bytes)
    : shape_(shape), capacity_pages_(capacity_bytes / shape.page_bytes()) {}

PagePool::~PagePool() {
  if (used_pages_ != 0) {
    std::fprintf(stderr, "page pool destroyed with %llu pages in use\n", static_cast<unsigned long long>(used_pages_));
    std::abort();
  }
}

absl::StatusOr<Page> PagePool::Acquire() {
  if (used_pages_ == capacity_pages_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("K/V memory is full: all ", capacity_pages_, " pages of ", shape_.page_bytes(), " bytes are in use"));
  }
  at::Tensor storage;
  if (free_.empty()) {
    storage = at::zeros({2, shape_.kv_heads, shape_.page_tokens, shape_.head_size},
                        at::TensorOptions(shape_.dtype).device(shape_.device));
  } else {
    storage = std::move(free_.back());
    free_.pop_back();
  }
  ++used_pages_;
  return Page(this, std::move(storage));
}

}  // namespace ebbinghaus::cache
