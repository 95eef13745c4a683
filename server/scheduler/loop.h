// What the engine thread does, one step at a time. It knows no threads, so that tests can turn it by hand.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/engine.h"
#include "server/metrics/metrics.h"
#include "server/scheduler/planner.h"
#include "server/scheduler/report_budget.h"
#include "server/scheduler/running_request.h"
#include "server/scheduler/step_budget.h"
#include "server/scheduler/waiting_queue.h"
#include "server/text/text_model.h"

namespace ebbinghaus::scheduler {

struct LoopOptions {
  uint32_t max_batch = 16;
  StepLimits step;
  base::Duration slow_reader_timeout = std::chrono::seconds(30);
  bool log_requests = true;
  bool log_prompts = false;
};

// A request that finds no K/V memory is passed by at most this many that need less; then memory is kept for it: nobody else
// starts until it fits.
inline constexpr uint32_t kMaxOvertakes = 16;

// What streams that have ended may keep until it is read, all together; beyond that the owner with most loses its oldest.
inline constexpr size_t kMaxUnreadBytes = 16 << 20;
// Counted for each beside its events: the call itself.
inline constexpr size_t kUnreadStreamBytes = 32 << 10;
// A stream that has ended must have been read after this many times slow_reader_timeout, however slowly.
inline constexpr int kUnreadTimeouts = 4;

// One thread calls RunOneStep; the other methods may be called from any.
class Loop {
 public:
  // All that is pointed to outlives this.
  Loop(const LoopOptions& options, base::Engine* engine, const text::TextModel* text, WaitingQueue* queue,
       metrics::Metrics* metrics, const base::Clock* clock);

  struct Progress {
    bool stepped = false;                   // the engine ran: call again
    bool idle = false;                      // nobody runs and nobody waits
    std::optional<base::TimePoint> wake_at; // if it did not step: when it must be called at the latest
  };

  // One turn: ends requests whose client is gone or whose time is up, gives sequences to those that wait, decides anew
  // who takes part, runs one engine step, and tells the readers. From `drain_deadline` on it ends everything: who
  // decodes gets one more token with all the text held back, and finishes as kDraining, as does who reads its prompt;
  // who waits is refused. An engine that throws loses the sequences of that step, nothing else.
  Progress RunOneStep(std::optional<base::TimePoint> drain_deadline);

  // How long the turn under way has been running; 0 between turns.
  base::Duration busy() const;
  // Who takes part in the step under way counts; never behind what a reader has been told.
  uint32_t running_requests() const { return running_count_.load(); }
  uint64_t kv_used_bytes() const { return kv_used_bytes_.load(); }
  uint64_t kv_cached_bytes() const { return kv_cached_bytes_.load(); }

 private:
  using Running = std::unique_ptr<RunningRequest>;
  struct Unread;

  void EndLostRequests(base::TimePoint now);
  std::optional<absl::Status> WhyLost(const RunningRequest& request, base::TimePoint now);
  void EndUnstarted();
  void EndEvicted(base::TimePoint now);
  void EndUnread(base::TimePoint now);
  bool Contended() const;
  void EndLaggard(base::TimePoint now);
  void EndRunning(Running& request, absl::Status status);
  void GiveUpOn(Mailbox& mailbox);
  base::TimePoint MustBeReadBy(const Unread& stream) const;
  bool TellWeights(bool last_step);
  void StartWaiting();
  QueuedRequest* NextToStart() const;
  enum class Start { kDone, kNoMemory };
  Start StartOne(QueuedRequest& queued);
  std::vector<base::StepItem> Plan(bool last_step, base::TimePoint now);
  void Learn(const std::vector<base::StepItem>& plan, base::Duration took);
  void RunStep(const std::vector<base::StepItem>& plan, bool last_step);
  std::vector<base::StepOutcome> EngineStep(const std::vector<base::StepItem>& plan);
  void Take(RunningRequest& request, const base::StepItem& item, base::StepOutcome outcome, bool last_step,
            base::TimePoint now);
  void Finish(RunningRequest& request, base::FinishReason reason);
  void Fail(RunningRequest& request, absl::Status status);
  void FailQueued(const QueuedRequest& queued, absl::Status status);
  void CountCancel(const Mailbox& mailbox, base::TimePoint now);
  void Leave(RunningRequest& request, RequestSummary summary, Event last);
  void Report(RequestSummary summary, base::TimePoint arrival, bool ran);
  void PublishGauges();
  void TellEndings();
  std::optional<base::TimePoint> NextDeadline(std::optional<base::TimePoint> drain_deadline) const;

  const LoopOptions options_;
  base::Engine* const engine_;
  const text::TextModel* const text_;
  WaitingQueue* const queue_;
  metrics::Metrics* const metrics_;
  const base::Clock* const clock_;

  std::vector<Running> running_;  // in the order in which they started
  StepBudget budget_;
  uint64_t step_number_ = 0;
  // Waiting requests that the engine once had no K/V memory for, as they were first tried.
  std::vector<QueuedRequest*> lack_memory_;
  // Of these, those tried since a request last left; before the next one does, they would fail again.
  std::vector<QueuedRequest*> tried_;
  // Last events, told after gauges and ids show that the request is gone.
  struct Ending {
    std::shared_ptr<Mailbox> mailbox;
    std::string owner;
    Event last;
  };
  std::vector<Ending> endings_;
  // Streams that have ended and that their readers have not taken yet, in that order.
  struct Unread {
    std::shared_ptr<Mailbox> mailbox;
    std::string owner;
    base::TimePoint ended;
  };
  std::vector<Unread> unread_;
  ReportBudget reports_;

  std::atomic<base::TimePoint> turn_began_{base::TimePoint::min()};  // min: between turns
  std::atomic<uint32_t> running_count_{0};
  std::atomic<uint64_t> kv_used_bytes_{0}, kv_cached_bytes_{0};
};

}  // namespace ebbinghaus::scheduler
