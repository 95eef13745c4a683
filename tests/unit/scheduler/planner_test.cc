#include "server/scheduler/planner.h"

#include <gtest/gtest.h>

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

TEST(PlanStep, ServesEveryDecodingSequenceOnceAndAtMostOneReaderWithAtMostOneChunk) {
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::vector<SequenceView> views = RandomViews(random);
    const PlanLimits limits{1 + static_cast<uint32_t>(random() % 300)};
    std::map<SequenceId, uint32_t> planned;
    for (const StepItem& item : PlanStep(views, limits)) {
      EXPECT_TRUE(planned.emplace(item.sequence, item.prompt_tokens).second) << "twice";
    }
    size_t readers = 0, may_read = 0;
    for (const SequenceView& view : views) {
      const auto found = planned.find(view.sequence);
      if (view.paused) {
        EXPECT_EQ(found, planned.end());
      } else if (view.unread_prompt_tokens == 0) {
        ASSERT_NE(found, planned.end());
        EXPECT_EQ(found->second, 0u);
      } else {
        ++may_read;
        if (found == planned.end()) continue;
        ++readers;
        EXPECT_EQ(found->second, std::min(view.unread_prompt_tokens, limits.prompt_chunk_tokens));
      }
    }
    EXPECT_EQ(readers, may_read > 0 ? 1u : 0u);
  }
}

TEST(PlanStep, KeepsTheOrderOfTheSequences) {
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    const std::vector<SequenceView> views = RandomViews(random);
    auto next = views.begin();
    for (const StepItem& item : PlanStep(views, {})) {
      next = std::find_if(next, views.end(), [&](const SequenceView& v) { return v.sequence == item.sequence; });
      ASSERT_NE(next, views.end());
      ++next;
    }
  }
}

TEST(PlanStep, IsEmptyOnlyIfNobodyCanRun) {
  EXPECT_TRUE(PlanStep({}, {}).empty());
  EXPECT_TRUE(PlanStep({{SequenceId{1}, 0, 0, true}, {SequenceId{2}, 9, 0, true}}, {}).empty());
  EXPECT_EQ(PlanStep({{SequenceId{1}, 0, 0, true}, {SequenceId{2}, 9, 0, false}}, {}).size(), 1u);
}

TEST(PlanStep, GivesTheChunkToTheReaderWhoseTurnIsLongestAgoAndOfEqualsToTheFirst) {
  const std::vector<SequenceView> views = {
      {SequenceId{1}, 500, 9, false}, {SequenceId{2}, 500, 3, false}, {SequenceId{3}, 500, 3, false}};
  const std::vector<StepItem> plan = PlanStep(views, {64});
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].sequence, SequenceId{2});
  EXPECT_EQ(plan[0].prompt_tokens, 64u);
}

TEST(PlanStep, OfSeveralLongPromptsEachIsReadInTurnSoThatAShortOneIsDoneSoon) {
  std::vector<SequenceView> views = {
      {SequenceId{1}, 100'000, 0, false}, {SequenceId{2}, 100'000, 0, false}, {SequenceId{3}, 100, 0, false}};
  std::map<SequenceId, int> turns;
  for (uint64_t step = 1; step <= 300; ++step) {
    for (const StepItem& item : PlanStep(views, {50})) {
      SequenceView& view = views[static_cast<size_t>(item.sequence) - 1];
      if (view.unread_prompt_tokens == 0) continue;
      view.unread_prompt_tokens -= item.prompt_tokens;
      view.last_read_step = step;
      ++turns[item.sequence];
      if (view.unread_prompt_tokens == 0) {
        EXPECT_LE(step, 6u) << "two chunks, three readers";
      }
    }
  }
  EXPECT_EQ(turns[SequenceId{3}], 2);
  EXPECT_EQ(turns[SequenceId{1}], 149);
  EXPECT_EQ(turns[SequenceId{2}], 149);
}

}  // namespace
}  // namespace ebbinghaus::scheduler
