#include "server/scheduler/pause_budget.h"

#include <gtest/gtest.h>

#include "server/scheduler/report_budget.h"
#include "tests/support/fake_clock.h"

namespace ebbinghaus::scheduler {
namespace {

using base::SequenceId;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(PauseBudget, OneTokenInTwentyNineSecondsAddsUp) {
  support::FakeClock clock;
  PauseBudget budget;
  for (int i = 0; i < 10; ++i) {
    budget.Set(true, clock.Now());
    clock.Advance(seconds(29));
    EXPECT_EQ(clock.Now() - *budget.since(), seconds(29));
    budget.Set(false, clock.Now());
    budget.EarnToken();
    EXPECT_FALSE(budget.since().has_value());
  }
  EXPECT_EQ(budget.spent(clock.Now()), 10 * (seconds(29) - PauseBudget::kPerToken));
}

TEST(PauseBudget, WhoTakesTenTokensASecondIsNeverBehind) {
  support::FakeClock clock;
  PauseBudget budget;
  for (int i = 0; i < 1000; ++i) {
    budget.Set(true, clock.Now());
    clock.Advance(milliseconds(100));
    budget.Set(false, clock.Now());
    EXPECT_LE(budget.spent(clock.Now()), milliseconds(100));
    budget.EarnToken();
  }
  EXPECT_EQ(budget.spent(clock.Now()), base::Duration::zero());
}

TEST(PauseBudget, NothingIsSavedUp) {
  support::FakeClock clock;
  PauseBudget budget;
  for (int i = 0; i < 1000; ++i) budget.EarnToken();
  budget.Set(true, clock.Now());
  clock.Advance(seconds(5));
  EXPECT_EQ(budget.spent(clock.Now()), seconds(5));
}

TEST(ReportBudget, AStreamOwesForItsReportUntilAQuarterOfTheOthersTimeHasPaid) {
  ReportBudget budget;
  budget.Owe(SequenceId{1}, milliseconds(5));
  EXPECT_TRUE(budget.Owes(SequenceId{1}));
  EXPECT_FALSE(budget.Owes(SequenceId{2}));
  budget.Pay(milliseconds(16));
  EXPECT_TRUE(budget.Owes(SequenceId{1}));
  budget.Pay(milliseconds(4));
  EXPECT_FALSE(budget.Owes(SequenceId{1}));
}

TEST(ReportBudget, StreamsThatOweComeBackOneByOne) {
  ReportBudget budget;
  for (uint64_t s : {1, 2, 3}) budget.Owe(SequenceId{s}, milliseconds(2));
  budget.Pay(milliseconds(10));
  EXPECT_FALSE(budget.Owes(SequenceId{1}));
  EXPECT_TRUE(budget.Owes(SequenceId{2}));
  budget.Pay(milliseconds(6));
  EXPECT_FALSE(budget.Owes(SequenceId{2}));
  EXPECT_TRUE(budget.Owes(SequenceId{3}));
  budget.Forget(SequenceId{3});
  EXPECT_FALSE(budget.Owes(SequenceId{3}));
}

TEST(ReportBudget, WhatNobodyNoticesIsFreeAndWhoRunsAloneOwesNoMoreThanOneReport) {
  ReportBudget budget;
  budget.Owe(SequenceId{1}, microseconds(150));
  EXPECT_FALSE(budget.Owes(SequenceId{1}));
  for (int i = 0; i < 1000; ++i) budget.Owe(SequenceId{1}, milliseconds(4));
  budget.Pay(milliseconds(16));
  EXPECT_FALSE(budget.Owes(SequenceId{1}));
}

}  // namespace
}  // namespace ebbinghaus::scheduler
