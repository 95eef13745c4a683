#include "server/memory/expiry_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

namespace ebbinghaus::memory {
namespace {

using base::Slot;

std::vector<Slot> Found(ExpiryIndex& index, double horizon) {
  std::vector<Slot> found;
  index.Search(horizon, [&](Slot slot) {
    found.push_back(slot);
    return index.bound(slot);
  });
  std::sort(found.begin(), found.end());
  return found;
}

// True expiries beside the index; they only grow, and the index is not told.
class Tokens {
 public:
  explicit Tokens(uint32_t seed) : random_(seed) {}

  void Append(double expiry) {
    expiries_.push_back(expiry);
    index_.Append(expiry);
  }
  void StrengthenSome() {
    for (double& expiry : expiries_) {
      if (random_() % 3 == 0) expiry += std::uniform_real_distribution<>(0, 5)(random_);
    }
  }
  void RemoveSome() {
    std::vector<Slot> removed;
    for (Slot slot = 0; slot < expiries_.size(); ++slot) {
      if (random_() % 20 == 0) removed.push_back(slot);
    }
    const auto plan = base::PlanRemoval(removed, static_cast<Slot>(expiries_.size()));
    base::ApplyRemoval(plan, expiries_);
    index_.Remove(plan);
  }
  std::vector<Slot> Expired(double horizon) {
    std::vector<Slot> expired;
    index_.Search(horizon, [&](Slot slot) {
      if (expiries_[slot] <= horizon) expired.push_back(slot);
      return expiries_[slot];
    });
    std::sort(expired.begin(), expired.end());
    return expired;
  }
  std::vector<Slot> ExpiredByScan(double horizon) const {
    std::vector<Slot> expired;
    for (Slot slot = 0; slot < expiries_.size(); ++slot) {
      if (expiries_[slot] <= horizon) expired.push_back(slot);
    }
    return expired;
  }
  double Lowest() const { return *std::min_element(expiries_.begin(), expiries_.end()); }
  // The search for the one lowest expiry, as the budget does it.
  double LowestBySearch() {
    double horizon = std::numeric_limits<double>::max();
    index_.Search(horizon, [&](Slot slot) {
      horizon = std::min(horizon, expiries_[slot]);
      return expiries_[slot];
    });
    return horizon;
  }
  const ExpiryIndex& index() const { return index_; }
  std::mt19937& random() { return random_; }

 private:
  std::mt19937 random_;
  std::vector<double> expiries_;
  ExpiryIndex index_;
};

TEST(ExpiryIndexTest, FindsWhatAScanOfAllFindsWhileTokensComeGrowAndGo) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    Tokens tokens(seed);
    for (int step = 0; step < 300; ++step) {
      for (uint32_t births = tokens.random()() % 4; births > 0; --births)
        tokens.Append(step + tokens.random()() % 100);
      tokens.StrengthenSome();
      ASSERT_EQ(tokens.Expired(step), tokens.ExpiredByScan(step))
          << "seed " << seed << " step " << step;
      if (tokens.index().size() > 0) {
        ASSERT_EQ(tokens.LowestBySearch(), tokens.Lowest());
        ASSERT_LE(tokens.index().lowest(), tokens.Lowest());
      }
      tokens.RemoveSome();
    }
  }
}

TEST(ExpiryIndexTest, LooksAtNothingWhileNothingIsDue) {
  ExpiryIndex index;
  for (int i = 0; i < 1000; ++i) index.Append(100 + i);
  index.Search(99.5, [](Slot) -> double {
    ADD_FAILURE() << "looked";
    return 0;
  });
  EXPECT_EQ(index.lowest(), 100);
}

TEST(ExpiryIndexTest, LooksOnlyAtWhatIsDue) {
  ExpiryIndex index;
  for (int i = 0; i < 1000; ++i) index.Append(i);
  EXPECT_THAT(Found(index, 2), testing::ElementsAre(0, 1, 2));
}

TEST(ExpiryIndexTest, ARefreshedSlotIsNotLookedAtAgainBeforeItsNewBound) {
  ExpiryIndex index;
  for (int i = 0; i < 200; ++i) index.Append(5);
  index.Search(10, [](Slot slot) { return 20.0 + slot; });
  EXPECT_EQ(index.lowest(), 20);
  EXPECT_TRUE(Found(index, 19).empty());
  EXPECT_THAT(Found(index, 21), testing::ElementsAre(0, 1));
}

TEST(ExpiryIndexTest, NeverAndUnknownMeanWhatTheySay) {
  ExpiryIndex index;
  EXPECT_EQ(index.lowest(), ExpiryIndex::kNever);
  index.Append(ExpiryIndex::kNever);
  EXPECT_TRUE(Found(index, std::numeric_limits<double>::max()).empty());
  index.Append(ExpiryIndex::kUnknown);
  EXPECT_THAT(Found(index, -1), testing::ElementsAre(1));
}

TEST(ExpiryIndexTest, TheSearchBeginsWhereTheLowestBoundIs) {
  ExpiryIndex index;
  for (int i = 0; i < 1000; ++i) index.Append(1000 - i);
  std::vector<Slot> looked;
  double horizon = std::numeric_limits<double>::max();
  index.Search(horizon, [&](Slot slot) {
    looked.push_back(slot);
    horizon = std::min(horizon, index.bound(slot));
    return index.bound(slot);
  });
  EXPECT_EQ(horizon, 1);
  EXPECT_LE(looked.size(), ExpiryIndex::kBlockSlots);
}

TEST(ExpiryIndexTest, ASlotThatFillsAHoleBringsItsBoundToItsNewBlock) {
  ExpiryIndex index;
  for (int i = 0; i < 200; ++i) index.Append(i < 199 ? 100 : 1);
  index.Remove(base::PlanRemoval(std::vector<Slot>{5}, 200));
  EXPECT_THAT(Found(index, 10), testing::ElementsAre(5));
}

TEST(ExpiryIndexTest, RemovingAllLeavesAnEmptyIndexThatGrowsAgain) {
  ExpiryIndex index;
  for (int i = 0; i < 130; ++i) index.Append(1);
  std::vector<Slot> all(130);
  for (Slot slot = 0; slot < 130; ++slot) all[slot] = slot;
  index.Remove(base::PlanRemoval(all, 130));
  EXPECT_EQ(index.size(), 0u);
  EXPECT_EQ(index.lowest(), ExpiryIndex::kNever);
  EXPECT_TRUE(Found(index, 5).empty());
  index.Append(4);
  EXPECT_THAT(Found(index, 5), testing::ElementsAre(0));
}

}  // namespace
}  // namespace ebbinghaus::memory
