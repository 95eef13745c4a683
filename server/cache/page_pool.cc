#include "server/cache/page_pool.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <ATen/ops/zeros.h>

#include "absl/strings/str_cat.h"

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

Page::Page(PagePool* pool, at::Tensor storage)
    : pool_(pool), storage_(std::move(storage)), keys_(storage_.select(0, 0)), values_(storage_.select(0, 1)) {}

Page::Page(Page&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      storage_(std::move(other.storage_)),
      keys_(std::move(other.keys_)),
      values_(std::move(other.values_)),
      bytes_(other.bytes_) {}

Page& Page::operator=(Page&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    storage_ = std::move(other.storage_);
    keys_ = std::move(other.keys_);
    values_ = std::move(other.values_);
    bytes_ = other.bytes_;
  }
  return *this;
}

Page::~Page() { Release(); }

void Page::Release() {
  if (pool_ == nullptr) return;
  --pool_->used_pages_;
  if (bytes_ != nullptr) {
    pool_->free_bytes_.push_back(bytes_);
  } else {
    pool_->free_.push_back(std::move(storage_));
  }
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
  if (shape_.packed) {
    std::byte* bytes = TakeBytes();
    ++used_pages_;
    return Page(this, bytes);
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

// Always zeroed: a kernel may read slots that are not live, at probability 0, and what a broken sequence left there (NaN)
// must not reach the next one.
std::byte* PagePool::TakeBytes() {
  const uint64_t page_bytes = shape_.page_bytes();
  if (!free_bytes_.empty()) {
    std::byte* bytes = free_bytes_.back();
    free_bytes_.pop_back();
    std::memset(bytes, 0, page_bytes);
    return bytes;
  }
  const uint64_t slab_pages = std::max<uint64_t>(1, kSlabBytes / page_bytes);
  if (slabs_.empty() || cut_pages_ == slab_pages) {
    slabs_.emplace_back(slab_pages * page_bytes);
    cut_pages_ = 0;
  }
  return slabs_.back().data() + cut_pages_++ * page_bytes;
}

}  // namespace ebbinghaus::cache
