#include "server/scheduler/step_budget.h"

#include <gtest/gtest.h>

namespace ebbinghaus::scheduler {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

// A machine on which a step takes `fixed` and so much per row.
struct Machine {
  double fixed_seconds = 0.015, decode_seconds = 0.004, prompt_seconds = 0.004;

  base::Duration Step(uint32_t decoding, uint32_t prompt_tokens) const {
    return duration_cast<base::Duration>(std::chrono::duration<double>(
        fixed_seconds + decoding * decode_seconds + prompt_tokens * prompt_seconds));
  }
};

void Teach(StepBudget& budget, const Machine& machine, uint32_t decoding, bool reading, int steps) {
  for (int i = 0; i < steps; ++i) {
    const uint32_t tokens = reading ? budget.PromptTokens(decoding, decoding) : 0;
    budget.Observe(decoding, tokens, machine.Step(decoding, tokens));
  }
}

TEST(StepBudget, AloneAStepTakesAboutTheTimeThatWasAskedFor) {
  for (const double cost : {0.001, 0.004, 0.02}) {
    Machine machine{0.015, 0.004, cost};
    StepBudget budget({}, 16);
    Teach(budget, machine, 0, true, 50);
    const double seconds = base::Seconds(machine.Step(0, budget.PromptTokens(0, 0)));
    EXPECT_NEAR(seconds, 0.25, 0.02) << cost;
  }
}

TEST(StepBudget, BesideThoseWhoDecodeReadingTakesAsLongAsTheirOwnStep) {
  Machine machine;
  StepBudget budget({}, 16);
  for (const uint32_t decoding : {1u, 4u, 16u}) {
    Teach(budget, machine, decoding, false, 5);
    Teach(budget, machine, decoding, true, 50);
    const double alone = base::Seconds(machine.Step(decoding, 0));
    const double with = base::Seconds(machine.Step(decoding, budget.PromptTokens(decoding, decoding)));
    EXPECT_NEAR(with / alone, 2, 0.2) << decoding;
  }
}

TEST(StepBudget, WhereTokensComeFasterThanAnybodyReadsReadingTakesWhatNobodyNotices) {
  const Machine machine{1e-4, 1e-5, 1e-5};
  StepBudget budget({}, 16);
  Teach(budget, machine, 4, false, 5);
  Teach(budget, machine, 4, true, 50);
  EXPECT_NEAR(base::Seconds(machine.Step(0, budget.PromptTokens(4, 4))), 0.005, 0.0005);
}

TEST(StepBudget, ManyWhoReadGetAsMuchOfAStepAsIfTheyDecodedAlready) {
  const Machine machine;
  StepBudget budget({}, 16);
  Teach(budget, machine, 16, false, 5);
  Teach(budget, machine, 2, false, 5);
  Teach(budget, machine, 16, true, 50);
  EXPECT_EQ(budget.PromptTokens(2, 16), budget.PromptTokens(16, 16));
  EXPECT_GT(budget.PromptTokens(2, 16), 3 * budget.PromptTokens(2, 2));
}

TEST(StepBudget, FollowsWhenReadingBecomesDearer) {
  Machine machine;
  StepBudget budget({}, 16);
  Teach(budget, machine, 16, false, 5);
  Teach(budget, machine, 16, true, 30);
  machine.prompt_seconds *= 5;  // a long context
  Teach(budget, machine, 16, true, 30);
  const double with = base::Seconds(machine.Step(16, budget.PromptTokens(16, 16)));
  EXPECT_NEAR(with / base::Seconds(machine.Step(16, 0)), 2, 0.2);
}

TEST(StepBudget, StaysWithinItsLimits) {
  StepLimits limits;
  limits.least_tokens = 7;
  limits.most_tokens = 100;
  StepBudget slow(limits, 4), quick(limits, 4);
  Teach(slow, {0.5, 0.5, 5}, 0, true, 20);
  EXPECT_EQ(slow.PromptTokens(0, 0), 7u);
  EXPECT_EQ(slow.PromptTokens(1000, 1000), 7u) << "more than it knows of";
  Teach(quick, {0, 1e-6, 1e-6}, 0, true, 20);
  EXPECT_EQ(quick.PromptTokens(0, 0), 100u);
}

TEST(StepBudget, AStepWithoutMeasurableTimeTeachesNothing) {
  StepBudget budget({}, 4);
  const uint32_t before = budget.PromptTokens(2, 2);
  budget.Observe(2, 0, base::Duration::zero());
  budget.Observe(0, 9, base::Duration::zero());
  EXPECT_EQ(budget.PromptTokens(2, 2), before);
}

TEST(StepBudget, KnowsNumbersThatItNeverSawFromTheirNeighbours) {
  Machine machine;
  StepBudget budget({}, 16);
  Teach(budget, machine, 8, false, 5);
  Teach(budget, machine, 8, true, 30);
  EXPECT_EQ(budget.PromptTokens(12, 12), budget.PromptTokens(8, 8));
  EXPECT_LT(budget.PromptTokens(2, 2), budget.PromptTokens(8, 8));
}

}  // namespace
}  // namespace ebbinghaus::scheduler
