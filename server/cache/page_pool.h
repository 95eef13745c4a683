// Fixed-size pages of K/V memory on one device, shared by counted holds and counted to the byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <utility>
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

// On whose account a page is held: a number for each kind of sequence, and the last for the prefix cache. A page that
// several hold is charged to the lowest of their accounts. So one that some sequence holds is used; one that only the cache
// holds is cached, and may be reclaimed; the others are free.
using Account = uint8_t;
inline constexpr Account kAccounts = 4, kCacheAccount = kAccounts - 1;

// A hold on a page, which goes back to its pool with the last of them. Must not outlive the pool. Whoever writes in a
// page must be the only one who holds it.
class Page {
 public:
  Page(Page&& other) noexcept;
  Page& operator=(Page&& other) noexcept;
  ~Page();

  // Another hold on the same page.
  Page Share(Account account) const;
  bool shared() const;  // others hold it too

  // Of a pool of tensors: [K, page_tokens, D].
  const at::Tensor& keys() const;
  const at::Tensor& values() const;
  // Of a pool of packed pages.
  std::byte* bytes() const;

  // Requires: of the same pool, not shared.
  void CopyFrom(const Page& other);

 private:
  friend class PagePool;
  struct Record;
  Page(PagePool* pool, Record* record, Account account);
  void Release();

  PagePool* pool_;  // null after a move
  Record* record_;
  Account account_;
};

struct Page::Record {
  at::Tensor storage;  // [2, K, page_tokens, D]
  at::Tensor keys, values;
  std::byte* bytes = nullptr;
  std::array<uint32_t, kAccounts> holds{};
};

// Pages are made when first needed and kept for reuse, so resident memory settles at the highest use.
// At every moment used_pages() + cached_pages() + free_pages() == capacity_pages(). One thread.
class PagePool {
 public:
  PagePool(PageShape shape, uint64_t capacity_bytes);
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();  // Requires: every page is back

  // A page for a sequence; if none is free, cached ones are reclaimed first.
  // Errors: ResourceExhausted when sequences hold all of them.
  absl::StatusOr<Page> Acquire(Account account = 0);

  // How to make a cache let go of the pages it can best do without; false when it holds none. Empty: there is no cache.
  void set_reclaim(std::function<bool()> reclaim) { reclaim_ = std::move(reclaim); }
  // Lets the cache drop an entry, which may free no page where sequences hold its pages too.
  bool Reclaim() { return reclaim_ && reclaim_(); }

  const PageShape& shape() const { return shape_; }
  uint64_t capacity_pages() const { return capacity_pages_; }
  uint64_t used_pages() const { return held_pages_ - cached_pages(); }
  uint64_t cached_pages() const { return charged_pages_[kCacheAccount]; }
  uint64_t free_pages() const { return capacity_pages_ - held_pages_; }
  uint64_t used_bytes() const { return used_pages() * shape_.page_bytes(); }
  uint64_t used_bytes(Account account) const { return charged_pages_[account] * shape_.page_bytes(); }
  uint64_t cached_bytes() const { return cached_pages() * shape_.page_bytes(); }
  uint64_t capacity_bytes() const { return capacity_pages_ * shape_.page_bytes(); }

 private:
  friend class Page;
  Page::Record* TakeRecord();
  std::byte* CutBytes();
  void Count(Page::Record& record, Account account, int change);

  const PageShape shape_;
  const uint64_t capacity_pages_;
  std::array<uint64_t, kAccounts> charged_pages_{};
  uint64_t held_pages_ = 0;  // their sum
  std::function<bool()> reclaim_;
  std::deque<Page::Record> records_;  // of every page that was ever made
  std::vector<Page::Record*> free_;
  // Packed pages are cut from slabs, in 2 MiB pages of the system where it gives them.
  std::vector<kernels::HugeBuffer> slabs_;
  uint64_t cut_pages_ = 0;  // of the last slab
};

}  // namespace ebbinghaus::cache
