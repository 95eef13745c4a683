#include "server/base/token_ranges.h"

#include <gtest/gtest.h>

#include <random>

namespace ebbinghaus::base {
namespace {

TEST(TokenRanges, AreSortedAndJoinedWhereTheyMeet) {
  const TokenRanges ranges{{20, 24}, {8, 12}, {10, 15}, {21, 22}, {15, 16}};
  EXPECT_EQ(ranges.ranges(), (std::vector<TokenRange>{{8, 16}, {20, 24}}));
  EXPECT_EQ(ranges.tokens(), 12u);
  EXPECT_TRUE(TokenRanges().empty());
  EXPECT_EQ(TokenRanges().tokens(), 0u);
  EXPECT_FALSE(TokenRanges().Contains(0));
}

TEST(TokenRanges, CopiesShareTheRangesAndCompareByThem) {
  const TokenRanges ranges{{1, 2}, {3, 4}};
  const TokenRanges copy = ranges;
  EXPECT_EQ(copy.ranges().data(), ranges.ranges().data());
  EXPECT_EQ(copy, ranges);
  EXPECT_EQ((TokenRanges{{3, 4}, {1, 2}}), ranges);
  EXPECT_FALSE((TokenRanges{{1, 4}}) == ranges);
}

TEST(TokenRanges, HoldWhatAnyOfThemHolds) {
  std::mt19937 random(1);
  const auto upto = [&](uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n)(random); };
  for (int i = 0; i < 500; ++i) {
    std::vector<TokenRange> some(upto(12));
    for (TokenRange& range : some) {
      range.begin = upto(90);
      range.end = range.begin + 1 + upto(9);
    }
    const TokenRanges ranges(some);
    uint64_t held = 0;
    for (Position p = 0; p < 110; ++p) {
      bool any = false;
      for (const TokenRange& range : some) any |= range.begin <= p && p < range.end;
      ASSERT_EQ(ranges.Contains(p), any);
      held += any;
    }
    ASSERT_EQ(ranges.tokens(), held);
  }
}

}  // namespace
}  // namespace ebbinghaus::base
