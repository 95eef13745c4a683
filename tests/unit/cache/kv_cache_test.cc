#include "server/cache/kv_cache.h"

#include <random>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include "gtest/gtest.h"

namespace ebbinghaus::cache {
namespace {

constexpr int64_t kHeads = 2, kSize = 4, kPageTokens = 8;

PageShape Shape() { return {.kv_heads = kHeads, .head_size = kSize, .page_tokens = kPageTokens}; }

at::Tensor Rows(const std::vector<float>& tags) {  // [T, K, D], every number of a token is its tag
  at::Tensor rows = at::full({static_cast<int64_t>(tags.size()), kHeads, kSize}, 0.0f);
  for (size_t i = 0; i < tags.size(); ++i) rows[i].fill_(tags[i]);
  return rows;
}

std::vector<float> Tags(const LayerCache& layer) {
  std::vector<float> tags;
  for (size_t page = 0; page < layer.page_count(); ++page) {
    const at::Tensor keys = layer.Keys(page), values = layer.Values(page);
    EXPECT_TRUE(at::equal(keys, values * -1));
    for (int64_t i = 0; i < keys.size(1); ++i) tags.push_back(keys[0][i][0].item<float>());
  }
  return tags;
}

TEST(KvCache, KeepsWhatWasAppendedAcrossPages) {
  PagePool pool(Shape(), 10 * Shape().page_bytes());
  LayerCache layer(&pool);
  std::vector<float> expected;
  for (int count : {1, 7, 3, 12}) {
    std::vector<float> tags;
    for (int i = 0; i < count; ++i) tags.push_back(static_cast<float>(expected.size() + i + 1));
    ASSERT_TRUE(layer.Append(Rows(tags), Rows(tags) * -1).ok());
    expected.insert(expected.end(), tags.begin(), tags.end());
    EXPECT_EQ(Tags(layer), expected);
  }
  EXPECT_EQ(pool.used_pages(), 3u);
}

TEST(KvCache, RemovalKeepsExactlyTheSurvivorsAndReturnsEmptiedPages) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    PagePool pool(Shape(), 10 * Shape().page_bytes());
    LayerCache layer(&pool);
    std::vector<float> tags(1 + random() % 60);
    for (size_t i = 0; i < tags.size(); ++i) tags[i] = static_cast<float>(i + 1);
    ASSERT_TRUE(layer.Append(Rows(tags), Rows(tags) * -1).ok());
    std::vector<base::Slot> removed;
    for (base::Slot s = 0; s < tags.size(); ++s) {
      if (random() % 3 == 0) removed.push_back(s);
    }
    const base::SlotRemovalPlan plan = base::PlanRemoval(removed, layer.live());
    layer.Remove(plan);
    base::ApplyRemoval(plan, tags);
    EXPECT_EQ(Tags(layer), tags);
    EXPECT_EQ(pool.used_pages(), Shape().PagesFor(tags.size()));
  }
}

TEST(KvCache, AFullPoolRefusesAndChangesNothing) {
  PagePool pool(Shape(), 2 * Shape().page_bytes());
  LayerCache layer(&pool);
  ASSERT_TRUE(layer.Append(Rows({1, 2, 3}), Rows({-1, -2, -3})).ok());
  const std::vector<float> many(2 * kPageTokens, 9);
  EXPECT_EQ(layer.Append(Rows(many), Rows(many)).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Tags(layer), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(pool.used_pages(), 1u);
}

TEST(KvCache, BytesAreThePagesOwnedAndAllReturnWhenTheSequenceEnds) {  // I17
  PagePool pool(Shape(), 100 * Shape().page_bytes());
  {
    KvCache cache(&pool, 3);
    ASSERT_TRUE(cache.layer(1).Append(Rows({1, 2}), Rows({-1, -2})).ok());
    ASSERT_TRUE(cache.layer(2).Append(Rows(std::vector<float>(9, 1)), Rows(std::vector<float>(9, -1))).ok());
    EXPECT_EQ(cache.bytes(), 3 * Shape().page_bytes());
    EXPECT_EQ(cache.bytes(), pool.used_bytes());
    EXPECT_EQ(cache.max_live(), 9u);
  }
  EXPECT_EQ(pool.used_bytes(), 0u);
}

// --- pages that several hold ---

std::vector<float> Count(float first, size_t count) {
  std::vector<float> tags(count);
  for (size_t i = 0; i < count; ++i) tags[i] = first + static_cast<float>(i);
  return tags;
}

void Append(LayerCache& layer, const std::vector<float>& tags) {
  ASSERT_TRUE(layer.Append(Rows(tags), Rows(tags) * -1).ok());
}

std::vector<Page> Share(const LayerCache& layer, Account account) {
  std::vector<Page> pages;
  for (size_t i = 0; i < layer.page_count(); ++i) pages.push_back(layer.page(i).Share(account));
  return pages;
}

TEST(SharedPages, AreReadByAllWhoHoldThemAndCountOnce) {
  PagePool pool(Shape(), 10 * Shape().page_bytes());
  LayerCache first(&pool), second(&pool);
  Append(first, Count(1, 20));
  second.Attach(Share(first, 0), 20);
  EXPECT_EQ(Tags(second), Tags(first));
  EXPECT_EQ(pool.used_pages(), 3u);
}

TEST(SharedPages, ANewbornGoesIntoACopyOfASharedTail) {
  PagePool pool(Shape(), 10 * Shape().page_bytes());
  LayerCache first(&pool), second(&pool);
  Append(first, Count(1, 12));
  second.Attach(Share(first, 0), 12);
  Append(first, {100});
  Append(second, {200, 201});
  std::vector<float> expected = Count(1, 12);
  expected.push_back(100);
  EXPECT_EQ(Tags(first), expected);
  expected.pop_back();
  expected.insert(expected.end(), {200, 201});
  EXPECT_EQ(Tags(second), expected);
  EXPECT_EQ(pool.used_pages(), 3u) << "the full page is still shared";
}

TEST(SharedPages, ForgettingInOneSequenceIsNotSeenByAnother) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    PagePool pool(Shape(), 40 * Shape().page_bytes());
    const std::vector<float> whole = Count(1, 1 + random() % 60);
    LayerCache first(&pool);
    Append(first, whole);
    std::vector<LayerCache> others;
    std::vector<std::vector<float>> expected;
    for (int i = 0; i < 3; ++i) {
      others.emplace_back(&pool).Attach(Share(first, 0), first.live());
      expected.push_back(whole);
    }
    for (int step = 0; step < 6; ++step) {
      const size_t one = random() % others.size();
      std::vector<base::Slot> removed;
      for (base::Slot s = 0; s < others[one].live(); ++s) {
        if (random() % 5 == 0) removed.push_back(s);
      }
      const base::SlotRemovalPlan plan = base::PlanRemoval(removed, others[one].live());
      others[one].Remove(plan);
      base::ApplyRemoval(plan, expected[one]);
      Append(others[one], {1000.0f + step});
      expected[one].push_back(1000.0f + step);
      EXPECT_EQ(Tags(first), whole);
      for (size_t i = 0; i < others.size(); ++i) EXPECT_EQ(Tags(others[i]), expected[i]);
    }
  }
}

TEST(SharedPages, PackedPagesAreCopiedWhole) {
  const kernels::KvLayout layout{.form = kernels::KvForm::kInt8, .kv_heads = 2, .head_size = 4, .page_tokens = 16};
  PagePool pool(PackedShape(layout), 4 * PackedShape(layout).page_bytes());
  LayerCache first(&pool), second(&pool);
  const auto store = [&](LayerCache& layer, base::Slot slot, float tag) {
    const std::vector<float> key(4, tag), value(4, -tag);
    for (int64_t head = 0; head < 2; ++head) kernels::StoreToken(layout, layer.page_bytes()[0], head, slot, key.data(), value.data());
  };
  const auto load = [&](const LayerCache& layer, base::Slot slot) {
    std::vector<float> key(4), value(4);
    kernels::LoadToken(layout, layer.page_bytes()[0], 1, slot, key.data(), value.data());
    return key[0];
  };
  ASSERT_TRUE(first.Grow(4).ok());
  for (base::Slot slot = 0; slot < 4; ++slot) store(first, slot, static_cast<float>(slot + 1));
  second.Attach(Share(first, 0), 4);
  EXPECT_EQ(second.page_bytes()[0], first.page_bytes()[0]);
  second.Remove(base::PlanRemoval({1}, 4));
  EXPECT_NE(second.page_bytes()[0], first.page_bytes()[0]);
  for (base::Slot slot = 0; slot < 4; ++slot) EXPECT_NEAR(load(first, slot), slot + 1, 0.02);
  EXPECT_NEAR(load(second, 0), 1, 0.02);
  EXPECT_NEAR(load(second, 1), 4, 0.02);
  EXPECT_NEAR(load(second, 2), 3, 0.02);
}

// Sequences that hold all they reserved, and every page of the pool, can still write in what they share with the cache.
TEST(SharedPages, WhereNoPageIsLeftForACopyTheCacheLetsGo) {
  PagePool pool(Shape(), 2 * Shape().page_bytes());
  LayerCache layer(&pool);
  Append(layer, Count(1, 2 * kPageTokens));
  std::vector<Page> cached = Share(layer, kCacheAccount);
  pool.set_reclaim([&] {
    if (cached.empty()) return false;
    cached.pop_back();
    return true;
  });
  std::vector<float> expected = Tags(layer);
  const base::SlotRemovalPlan plan = base::PlanRemoval({0, 3}, layer.live());
  layer.Remove(plan);
  base::ApplyRemoval(plan, expected);
  EXPECT_EQ(Tags(layer), expected);
  EXPECT_TRUE(cached.empty());
  EXPECT_EQ(pool.used_pages(), 2u);
}

}  // namespace
}  // namespace ebbinghaus::cache
