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

}  // namespace
}  // namespace ebbinghaus::cache
