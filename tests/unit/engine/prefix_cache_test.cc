#include "server/engine/prefix_cache.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include "gtest/gtest.h"

namespace ebbinghaus::engine {
namespace {

using base::TokenId;

constexpr uint32_t kLayers = 2, kPageTokens = 4;
constexpr float kStrong = 0.01f;

cache::PageShape Shape() { return {.kv_heads = 1, .head_size = 2, .page_tokens = kPageTokens}; }

std::vector<TokenId> Ids(const std::string& text) { return {text.begin(), text.end()}; }

// Sums that tell where they come from.
std::vector<PromptMass> Mass(size_t tokens, double tag) {
  PromptMass mass{.sum = std::vector<double>(tokens), .last_strong_row = std::vector<int32_t>(tokens, -1)};
  std::iota(mass.sum.begin(), mass.sum.end(), tag);
  return std::vector<PromptMass>(kLayers, mass);
}

class PrefixCacheTest : public testing::Test {
 protected:
  // A sequence's K/V of these tokens: every number is the token's id.
  std::unique_ptr<cache::KvCache> Read(const std::string& text) {
    auto kv = std::make_unique<cache::KvCache>(&pool_, kLayers);
    at::Tensor rows = at::full({static_cast<int64_t>(text.size()), 1, 2}, 0.0f);
    for (size_t i = 0; i < text.size(); ++i) rows[i].fill_(static_cast<float>(text[i]));
    for (uint32_t l = 0; l < kLayers; ++l) EXPECT_TRUE(kv->layer(l).Append(rows, rows * static_cast<float>(l + 1)).ok());
    return kv;
  }
  void Insert(const std::string& text, const std::string& owner = "") { prefixes_->Insert(owner, Ids(text), *Read(text)); }
  void InsertEnd(const std::string& text, double tag = 0, float strong = kStrong) {
    prefixes_->InsertEnd("", Ids(text), *Read(text), strong, Mass(text.size(), tag));
  }

  // By a sequence that observes its last row only, unless told otherwise.
  Prefix Find(const std::string& text, const std::string& owner = "") { return FindObserved(text, text.size() - 1, kStrong, owner); }
  Prefix FindObserved(const std::string& text, size_t first_row, float strong = kStrong, const std::string& owner = "") {
    const std::vector<TokenId> ids = Ids(text);
    Prefix prefix = prefixes_->Find(
        {.owner = owner, .prompt = ids, .first_observed_row = static_cast<base::Position>(first_row), .strong = strong});
    EXPECT_EQ(Held(prefix), text.substr(0, prefix.tokens));
    return prefix;
  }

  // The tokens whose K/V it is.
  static std::string Held(const Prefix& prefix) {
    std::string text;
    for (uint32_t l = 0; l < prefix.pages.size(); ++l) {
      text.clear();
      for (uint32_t i = 0; i < prefix.tokens; ++i) {
        const cache::Page& page = prefix.pages[l][i / kPageTokens];
        const auto id = page.keys()[0][i % kPageTokens][0].item<float>();
        EXPECT_EQ(page.values()[0][i % kPageTokens][1].item<float>(), id * static_cast<float>(l + 1));
        text += static_cast<char>(id);
      }
    }
    return text;
  }

  static constexpr uint64_t kPages = 160;
  cache::PagePool pool_{Shape(), kPages * Shape().page_bytes()};
  std::optional<PrefixCache> prefixes_{std::in_place, &pool_, kLayers};
};

TEST_F(PrefixCacheTest, GivesTheLongestRunOfFullPagesAndNeverTheLastRow) {
  Insert("abcdefghijkl");
  EXPECT_EQ(Find("abcdefghijklm").tokens, 12u);
  EXPECT_EQ(Find("abcdefghijkl").tokens, 8u) << "the last row is computed";
  EXPECT_EQ(Find("abcdefghijk").tokens, 8u);
  EXPECT_EQ(Find("abcdefgXijkl").tokens, 4u);
  EXPECT_EQ(Find("Xbcdefghijkl").tokens, 0u);
  EXPECT_EQ(Find("abc").tokens, 0u);
  EXPECT_EQ(Find("a").tokens, 0u);
}

TEST_F(PrefixCacheTest, AnUnfinishedPageIsNotKeptAsABlock) {
  Insert("abcdef");
  EXPECT_EQ(prefixes_->entries(), 1u);
  EXPECT_EQ(Find("abcdefghijkl").tokens, 4u);
}

TEST_F(PrefixCacheTest, PromptsThatPartShareWhatTheyHaveInCommonOnce) {
  Insert("abcdefgh");
  Insert("abcdEFGH");
  Insert("abcdefghijkl");
  EXPECT_EQ(prefixes_->entries(), 4u);
  EXPECT_EQ(pool_.cached_pages(), 4u * kLayers);
  EXPECT_EQ(pool_.used_pages(), 0u);
  EXPECT_EQ(Find("abcdEFGH.").tokens, 8u);
  EXPECT_EQ(Find("abcdefghijkl.").tokens, 12u);
}

TEST_F(PrefixCacheTest, TheSameBlockAfterAnotherBeginningIsAnotherBlock) {
  Insert("aaaabbbb");
  Insert("ccccdddd");
  EXPECT_EQ(Find("ccccbbbb.").tokens, 4u);
  EXPECT_EQ(Find("bbbb.").tokens, 0u);
}

TEST_F(PrefixCacheTest, WhereAllHashesCollideTokenIdsDecide) {
  prefixes_.reset();
  prefixes_.emplace(&pool_, kLayers, [](uint64_t, absl::Span<const TokenId>) { return uint64_t{7}; });
  Insert("abcdefgh");
  Insert("ABCDefgh");
  Insert("abcdEFGH", "somebody");
  EXPECT_EQ(prefixes_->entries(), 6u);
  EXPECT_EQ(Find("abcdefgh.").tokens, 8u);
  EXPECT_EQ(Find("ABCDefgh.").tokens, 8u);
  EXPECT_EQ(Find("abcdEFGH.").tokens, 4u);
  EXPECT_EQ(Find("abcdEFGH.", "somebody").tokens, 8u);
  while (prefixes_->DropLeastRecentlyUsed()) {
  }
  EXPECT_EQ(pool_.cached_pages(), 0u);
}

TEST_F(PrefixCacheTest, OwnersSeeNothingOfEachOther) {
  Insert("abcdefgh", "alice");
  EXPECT_EQ(Find("abcdefgh.", "alice").tokens, 8u);
  EXPECT_EQ(Find("abcdefgh.", "bob").tokens, 0u);
  EXPECT_EQ(Find("abcdefgh.", "").tokens, 0u);
  Insert("abcdefgh", "bob");
  EXPECT_EQ(prefixes_->entries(), 4u);
  EXPECT_EQ(Find("abcdefgh.", "bob").tokens, 8u);
}

TEST_F(PrefixCacheTest, TheLeastRecentlyUsedGoesFirstAndChildrenBeforeParents) {
  Insert("aaaabbbb");
  Insert("ccccdddd");
  Find("aaaabbbb.");
  prefixes_->DropLeastRecentlyUsed();
  EXPECT_EQ(Find("ccccdddd.").tokens, 4u) << "its child is gone";
  Find("aaaabbbb.");
  prefixes_->DropLeastRecentlyUsed();
  EXPECT_EQ(Find("ccccdddd.").tokens, 0u);
  EXPECT_EQ(Find("aaaabbbb.").tokens, 8u);
  EXPECT_TRUE(prefixes_->DropLeastRecentlyUsed());
  EXPECT_TRUE(prefixes_->DropLeastRecentlyUsed());
  EXPECT_FALSE(prefixes_->DropLeastRecentlyUsed());
}

TEST_F(PrefixCacheTest, ThePoolReclaimsBeforeItRefuses) {
  Insert("aaaabbbb");
  Insert("cccc");
  std::vector<cache::Page> pages;
  for (uint64_t i = 0; i < kPages; ++i) {
    absl::StatusOr<cache::Page> page = pool_.Acquire();
    ASSERT_TRUE(page.ok());
    pages.push_back(*std::move(page));
    EXPECT_EQ(pool_.used_pages(), i + 1);
    EXPECT_EQ(pool_.used_pages() + pool_.cached_pages() + pool_.free_pages(), kPages);
  }
  EXPECT_EQ(prefixes_->entries(), 0u);
  EXPECT_FALSE(pool_.Acquire().ok());
}

TEST_F(PrefixCacheTest, WhatASequenceHoldsIsUsedUntilItGoesAndThenCachedAgain) {
  Insert("aaaabbbb");
  EXPECT_EQ(pool_.cached_pages(), 4u);
  {
    const Prefix prefix = Find("aaaabbbb.");
    EXPECT_EQ(pool_.used_pages(), 4u);
    EXPECT_EQ(pool_.cached_pages(), 0u);
    while (prefixes_->DropLeastRecentlyUsed()) {
    }
    EXPECT_EQ(Held(prefix), "aaaabbbb");
    EXPECT_EQ(pool_.used_pages(), 4u);
  }
  EXPECT_EQ(pool_.free_pages(), kPages);
}

// --- prompts whose rows are observed ---

TEST_F(PrefixCacheTest, BlocksServeRowsThatAreNotObservedOnly) {
  Insert("aaaabbbbcccc");
  EXPECT_EQ(FindObserved("aaaabbbbcccc.", 9).tokens, 8u);
  EXPECT_EQ(FindObserved("aaaabbbbcccc.", 7).tokens, 4u);
  EXPECT_EQ(FindObserved("aaaabbbbcccc.", 3).tokens, 0u);
  const Prefix none = FindObserved("aaaabbbbcccc.", 0);
  EXPECT_EQ(none.tokens, 0u);
  EXPECT_EQ(none.known_tokens, 12u);
}

TEST_F(PrefixCacheTest, AnEndGivesItsWholePromptWithItsMass) {
  InsertEnd("aaaabbbbcc", 100);
  EXPECT_EQ(pool_.cached_pages(), 3u * kLayers);
  const Prefix prefix = FindObserved("aaaabbbbcc.", 0);
  EXPECT_EQ(prefix.tokens, 10u);
  ASSERT_EQ(prefix.mass.size(), kLayers);
  EXPECT_EQ(prefix.mass[1].sum, Mass(10, 100)[1].sum);
  EXPECT_EQ(FindObserved("aaaabbbbcc", 0).tokens, 0u) << "the mass has the last row's part in it already";
  EXPECT_EQ(FindObserved("aaaabbbbcX.", 0).tokens, 0u);
  EXPECT_EQ(FindObserved("aaaabbbbcc.", 0, 0.02f).tokens, 0u) << "other rows would be strong";
  EXPECT_EQ(FindObserved("aaaabbbbcc.", 0, kStrong, "bob").tokens, 0u);
}

TEST_F(PrefixCacheTest, TheLongestEndIsTaken) {
  InsertEnd("aa", 1);
  InsertEnd("aaaa", 2);
  InsertEnd("aaaab", 3);
  InsertEnd("aaaabbb", 4);
  InsertEnd("aaaabbX", 5);
  EXPECT_EQ(FindObserved("aaaabbbb", 0).mass[0].sum[0], 4);
  EXPECT_EQ(FindObserved("aaaabb", 0).mass[0].sum[0], 3);
  EXPECT_EQ(FindObserved("aaaaX", 0).mass[0].sum[0], 2);
  EXPECT_EQ(FindObserved("aaaXX", 0).mass[0].sum[0], 1);
}

TEST_F(PrefixCacheTest, AnEndsBlocksServeAlsoThoseWhoObserveNothing) {
  InsertEnd("aaaabbbbcc");
  const Prefix prefix = Find("aaaabbbbcc..");
  EXPECT_EQ(prefix.tokens, 8u);
  EXPECT_TRUE(prefix.mass.empty());
}

TEST_F(PrefixCacheTest, MassTakesNoMoreThanItsPartOfMemoryOldestFirst) {
  const uint64_t limit = pool_.capacity_bytes() / 16;
  const uint64_t one = kLayers * Mass(1, 0)[0].bytes();
  const size_t fit = limit / one;
  ASSERT_LT(fit, 30u);
  for (size_t i = 0; i < fit + 2; ++i) {
    InsertEnd(std::string(1, static_cast<char>('A' + i)));
    EXPECT_LE(prefixes_->mass_bytes(), limit);
  }
  EXPECT_EQ(prefixes_->entries(), fit);
  EXPECT_EQ(FindObserved("A.", 0).tokens, 0u);
  EXPECT_EQ(FindObserved("B.", 0).tokens, 0u);
  EXPECT_EQ(FindObserved("C.", 0).tokens, 1u);
}

TEST_F(PrefixCacheTest, AMassThatIsTooLargeIsLeftOutAndItsBlocksAreNot) {
  std::string text(40, 'x');
  InsertEnd(text);
  EXPECT_EQ(prefixes_->mass_bytes(), 0u);
  EXPECT_EQ(Find(text + ".").tokens, 40u);
}

TEST_F(PrefixCacheTest, AtTheEndNothingIsLeft) {
  InsertEnd("aaaab");
  Insert("aaaabbbb", "bob");
  prefixes_.reset();
  EXPECT_EQ(pool_.free_pages(), kPages);
  EXPECT_FALSE(pool_.Reclaim());
}

}  // namespace
}  // namespace ebbinghaus::engine
