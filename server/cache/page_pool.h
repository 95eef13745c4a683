// Fixed-size pages of K/V memory on one device, counted to the byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/kernels/huge_buffer.h"
#include "server/kernels/kv_layout.h"

namespace ebbinghaus::cache {

// What one page holds: K and V of `page_tokens` slots of one layer.
struct PageShape {
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  int64_t page_tokens = 64;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
  // Set: pages are bytes in the CPU kernels' layout, which then says it all. Not set: tensors.
  std::optional<kernels::KvLayout> packed = std::nullopt;

  uint64_t page_bytes() const;
  uint64_t PagesFor(uint64_t tokens) const { return (tokens + page_tokens - 1) / page_tokens; }
};
PageShape PackedShape(const kernels::KvLayout& layout);

class PagePool;

// One page, owned; goes back to its pool when destroyed. Must not outlive the pool.
class Page {
 public:
  Page(Page&& other) noexcept;
  Page& operator=(Page&& other) noexcept;
  ~Page();

  // Of a pool of tensors: [K, page_tokens, D].
  const at::Tensor& keys() const { return keys_; }
  const at::Tensor& values() const { return values_; }
  // Of a pool of packed pages.
  std::byte* bytes() const { return bytes_; }

 private:
  friend class PagePool;
  Page(PagePool* pool, at::Tensor storage);
  Page(PagePool* pool, std::byte* bytes) : pool_(pool), bytes_(bytes) {}
  void Release();

  PagePool* pool_;      // null after a move
  at::Tensor storage_;  // [2, K, page_tokens, D]
  at::Tensor keys_, values_;
  std::byte* bytes_ = nullptr;
};

// Pages are made when first needed and kept for reuse, so resident memory settles at the highest use.
// One thread.
class PagePool {
 public:
  PagePool(PageShape shape, uint64_t capacity_bytes);
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();  // Requires: every page is back

  // Errors: ResourceExhausted when capacity_bytes are in use.
  absl::StatusOr<Page> Acquire();

  const PageShape& shape() const { return shape_; }
  uint64_t capacity_pages() const { return capacity_pages_; }
  uint64_t used_pages() const { return used_pages_; }
  uint64_t used_bytes() const { return used_pages_ * shape_.page_bytes(); }

 private:
  friend class Page;
  std::byte* TakeBytes();

  const PageShape shape_;
  const uint64_t capacity_pages_;
  uint64_t used_pages_ = 0;
  std::vector<at::Tensor> free_;
  // Packed pages are cut from slabs, in 2 MiB pages of the system where it gives them.
  std::vector<kernels::HugeBuffer> slabs_;
  uint64_t cut_pages_ = 0;  // of the last slab
  std::vector<std::byte*> free_bytes_;
};

}  // namespace ebbinghaus::cache
