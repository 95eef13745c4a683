#include "server/cache/page_pool.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ebbinghaus::cache {
namespace {

PageShape Packed() {
  return PackedShape({.form = kernels::KvForm::kF32, .kv_heads = 1, .head_size = 2, .page_tokens = 16});
}
PageShape Tensors() { return {.kv_heads = 1, .head_size = 2, .page_tokens = 4}; }

class PagePoolTest : public testing::TestWithParam<bool> {
 protected:
  PageShape Shape() const { return GetParam() ? Packed() : Tensors(); }
  // What identifies a page's memory.
  static const void* Memory(const Page& page) {
    return page.bytes() != nullptr ? static_cast<const void*>(page.bytes()) : page.keys().data_ptr();
  }
};

TEST_P(PagePoolTest, UsedAndCachedAndFreePagesMakeUpTheCapacityAtEveryMoment) {
  constexpr uint64_t kCapacity = 7;
  PagePool pool(Shape(), kCapacity * Shape().page_bytes());
  struct Hold {
    Page page;
    Account account;
  };
  std::vector<Hold> holds;
  pool.set_reclaim([&] {  // drops the oldest hold of the cache
    const auto oldest = std::find_if(holds.begin(), holds.end(), [](const Hold& h) { return h.account == kCacheAccount; });
    if (oldest == holds.end()) return false;
    holds.erase(oldest);
    return true;
  });
  std::mt19937 random(5);
  for (int step = 0; step < 20'000; ++step) {
    const auto account = static_cast<Account>(random() % kAccounts);
    const size_t index = holds.empty() ? 0 : random() % holds.size();
    switch (random() % 4) {
      case 0: {
        const auto for_sequence = static_cast<Account>(random() % kCacheAccount);
        const bool possible = pool.used_pages() < kCapacity;
        absl::StatusOr<Page> page = pool.Acquire(for_sequence);
        ASSERT_EQ(page.ok(), possible) << "what is cached is no reason to refuse";
        if (page.ok()) holds.push_back({*std::move(page), for_sequence});
        break;
      }
      case 1:
        if (!holds.empty()) holds.push_back({holds[index].page.Share(account), account});
        break;
      case 2:
        if (!holds.empty()) std::swap(holds[index], holds.back());
        [[fallthrough]];
      default:
        if (!holds.empty()) holds.pop_back();
    }
    std::vector<std::pair<const void*, Account>> lowest;  // account of every page
    for (const Hold& hold : holds) {
      const auto known = std::find_if(lowest.begin(), lowest.end(), [&](auto& p) { return p.first == Memory(hold.page); });
      if (known == lowest.end()) {
        lowest.emplace_back(Memory(hold.page), hold.account);
      } else {
        known->second = std::min(known->second, hold.account);
        EXPECT_TRUE(hold.page.shared());
      }
    }
    std::array<uint64_t, kAccounts> charged{};
    for (const auto& [memory, lowest_account] : lowest) ++charged[lowest_account];
    for (Account a = 0; a < kAccounts; ++a) ASSERT_EQ(pool.used_bytes(a), charged[a] * Shape().page_bytes());
    ASSERT_EQ(pool.cached_pages(), charged[kCacheAccount]);
    ASSERT_EQ(pool.used_pages() + pool.cached_pages(), lowest.size());
    ASSERT_EQ(pool.used_pages() + pool.cached_pages() + pool.free_pages(), pool.capacity_pages());
  }
  holds.clear();
  EXPECT_EQ(pool.free_pages(), kCapacity);
}

TEST_P(PagePoolTest, APageIsFreeOnlyWhenNobodyHoldsIt) {
  PagePool pool(Shape(), Shape().page_bytes());
  std::optional<Page> first = pool.Acquire().value();
  EXPECT_FALSE(first->shared());
  std::optional<Page> second = first->Share(1);
  EXPECT_TRUE(first->shared());
  EXPECT_EQ(Memory(*first), Memory(*second));
  first.reset();
  EXPECT_FALSE(second->shared());
  EXPECT_FALSE(pool.Acquire().ok());
  second.reset();
  EXPECT_TRUE(pool.Acquire().ok());
}

TEST_P(PagePoolTest, WhatSequencesShareIsChargedOnceAndPassesToWhoStays) {
  PagePool pool(Shape(), 3 * Shape().page_bytes());
  std::optional<Page> first = pool.Acquire(1).value();
  const Page second = first->Share(2);
  const Page cached = first->Share(kCacheAccount);
  EXPECT_EQ(pool.used_bytes(1), Shape().page_bytes());
  EXPECT_EQ(pool.used_bytes(2), 0u);
  EXPECT_EQ(pool.cached_bytes(), 0u);
  first.reset();
  EXPECT_EQ(pool.used_bytes(1), 0u);
  EXPECT_EQ(pool.used_bytes(2), Shape().page_bytes());
  EXPECT_EQ(pool.used_bytes(), Shape().page_bytes());
}

INSTANTIATE_TEST_SUITE_P(BothKinds, PagePoolTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "packed" : "tensors"; });

TEST(PagePool, APageThatComesAgainHasNothingOfItsPast) {
  PagePool pool(Packed(), Packed().page_bytes());
  const auto size = static_cast<size_t>(Packed().page_bytes());
  {
    const Page page = pool.Acquire().value();
    std::memset(page.bytes(), 0xff, size);  // NaN everywhere
  }
  const Page page = pool.Acquire().value();
  EXPECT_EQ(std::count(page.bytes(), page.bytes() + size, std::byte{0}), static_cast<int64_t>(size));
}

}  // namespace
}  // namespace ebbinghaus::cache
