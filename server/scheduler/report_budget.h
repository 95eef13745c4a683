// Who pays for reports: attention, snapshots, log-probabilities take engine time that plain streams have no use for.
#pragma once

#include <algorithm>
#include <chrono>
#include <deque>

#include "server/base/clock.h"
#include "server/base/ids.h"

namespace ebbinghaus::scheduler {

// A stream whose report took time owes it, and sits out steps until it is paid: a quarter of every step's other time goes
// to the stream that has owed longest. So reports take at most a fifth of the time, and streams that owe come back one by
// one and not all in one step. Plain state, one thread.
class ReportBudget {
 public:
  // Less than this is not worth a pause.
  static constexpr base::Duration kUnnoticed = std::chrono::microseconds(200);
  static constexpr int kOtherTimePerReportTime = 4;

  // The stream's report in this step took that long. One that owed already and ran all the same, since nobody else could,
  // owes no more than before.
  void Owe(base::SequenceId stream, base::Duration took) {
    if (took > kUnnoticed && !Owes(stream)) debts_.push_back({stream, took});
  }
  // A step took this long beside reports.
  void Pay(base::Duration took) {
    base::Duration left = took / kOtherTimePerReportTime;
    while (!debts_.empty() && left >= debts_.front().left) {
      left -= debts_.front().left;
      debts_.pop_front();
    }
    if (!debts_.empty()) debts_.front().left -= left;
  }
  bool Owes(base::SequenceId stream) const {
    return std::any_of(debts_.begin(), debts_.end(), [=](const Debt& d) { return d.stream == stream; });
  }
  // The stream has ended.
  void Forget(base::SequenceId stream) {
    std::erase_if(debts_, [=](const Debt& d) { return d.stream == stream; });
  }

 private:
  struct Debt {
    base::SequenceId stream{};
    base::Duration left{};
  };

  std::deque<Debt> debts_;  // at most one per stream that runs
};

}  // namespace ebbinghaus::scheduler
