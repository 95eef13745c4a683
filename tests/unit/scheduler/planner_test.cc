#include "server/scheduler/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace ebbinghaus::scheduler {
namespace {

using base::SequenceId;
using base::StepItem;

std::vector<SequenceView> RandomViews(std::mt19937& random) {
  std::vector<SequenceView> views(random() % 12);
  for (size_t i = 0; i < views.size(); ++i) {
    views[i].sequence = SequenceId{100 + i * 7};
    views[i].unread_prompt_tokens = random() % 2 ? 0 : random() % 900;
    views[i].last_read_step = random() % 5;
    views[i].paused = random() % 4 == 0;
  }
  return views;
}

TEST(PlanStep, ServesEveryDecodingSequenceOnceAndReadsAsMuchAsItMayAndThereIs) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::vector<SequenceView> views = RandomViews(random);
    const uint32_t may_read = 1 + static_cast<uint32_t>(random() % 900);
    std::map<SequenceId, uint32_t> planned;
    for (const StepItem& item : PlanStep(views, may_read)) {
      EXPECT_TRUE(planned.emplace(item.sequence, item.prompt_tokens).second) << "twice";
    }
    uint32_t unread = 0, read = 0;
    for (const SequenceView& view : views) {
      const auto found = planned.find(view.sequence);
      if (view.paused) {
        EXPECT_EQ(found, planned.end());
      } else if (view.unread_prompt_tokens == 0) {
        ASSERT_NE(found, planned.end());
        EXPECT_EQ(found->second, 0u);
      } else {
        unread += view.unread_prompt_tokens;
        if (found == planned.end()) continue;
        EXPECT_GT(found->second, 0u);
        EXPECT_LE(found->second, view.unread_prompt_tokens);
        read += found->second;
      }
    }
    EXPECT_EQ(read, std::min(unread, may_read));
  }
}

TEST(PlanStep, GivesHalfToThoseSoonestDoneAndHalfToTheOneWhoseTurnIsLongestAgo) {
  const std::vector<SequenceView> views = {
      {SequenceId{1}, 500, 9, false}, {SequenceId{2}, 900, 3, false}, {SequenceId{3}, 20, 8, false},
      {SequenceId{4}, 30, 8, false}};
  const std::vector<StepItem> plan = PlanStep(views, 81);
  ASSERT_EQ(plan.size(), 3u);
  EXPECT_EQ(plan[0].sequence, SequenceId{2});
  EXPECT_EQ(plan[0].prompt_tokens, 41u);
  EXPECT_EQ(plan[1].prompt_tokens, 20u);  // 3
  EXPECT_EQ(plan[2].prompt_tokens, 20u);  // 4: what is left of the half
}

TEST(PlanStep, WhatOneDoesNotNeedGoesToOthers) {
  const std::vector<SequenceView> views = {{SequenceId{1}, 5, 1, false}, {SequenceId{2}, 900, 3, false}};
  const std::vector<StepItem> plan = PlanStep(views, 100);
  ASSERT_EQ(plan.size(), 2u);
  EXPECT_EQ(plan[0].prompt_tokens, 5u);
  EXPECT_EQ(plan[1].prompt_tokens, 95u);
}

TEST(PlanStep, KeepsTheOrderOfTheSequences) {
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    const std::vector<SequenceView> views = RandomViews(random);
    auto next = views.begin();
    for (const StepItem& item : PlanStep(views, 64)) {
      next = std::find_if(next, views.end(), [&](const SequenceView& v) { return v.sequence == item.sequence; });
      ASSERT_NE(next, views.end());
      ++next;
    }
  }
}

TEST(PlanStep, IsEmptyOnlyIfNobodyCanRun) {
  EXPECT_TRUE(PlanStep({}, 64).empty());
  EXPECT_TRUE(PlanStep({{SequenceId{1}, 0, 0, true}, {SequenceId{2}, 9, 0, true}}, 64).empty());
  EXPECT_EQ(PlanStep({{SequenceId{1}, 0, 0, true}, {SequenceId{2}, 9, 0, false}}, 64).size(), 1u);
}

// The worst that can happen to a long prompt: there are always short ones, which are soonest done.
TEST(PlanStep, NeitherALongPromptNorShortOnesAreStarved) {
  constexpr uint32_t kTokens = 50;
  std::vector<SequenceView> views = {{SequenceId{1}, 20'000, 0, false}};
  std::map<SequenceId, uint64_t> began;
  uint64_t next = 2, step = 1;
  for (; views[0].unread_prompt_tokens > 0; ++step) {
    ASSERT_LT(step, 3000u);
    while (views.size() < 4) {
      views.push_back({SequenceId{next}, 60, step - 1, false});
      began[SequenceId{next++}] = step;
    }
    for (const StepItem& item : PlanStep(views, kTokens)) {
      SequenceView& view = *std::find_if(views.begin(), views.end(),
                                         [&](const SequenceView& v) { return v.sequence == item.sequence; });
      view.unread_prompt_tokens -= item.prompt_tokens;
      view.last_read_step = step;
    }
    for (size_t i = 1; i < views.size();) {
      if (views[i].unread_prompt_tokens > 0) {
        ++i;
        continue;
      }
      EXPECT_LE(step - began[views[i].sequence], 12u);
      views.erase(views.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  EXPECT_LE(step, 4 * 20'000u / (kTokens / 2)) << "a half at every fourth step at least";
}

}  // namespace
}  // namespace ebbinghaus::scheduler
