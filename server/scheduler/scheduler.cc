#include "server/scheduler/scheduler.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "server/scheduler/admission.h"
#include "server/scheduler/loop.h"
#include "server/scheduler/request_log.h"
#include "server/scheduler/waiting_queue.h"
#include "server/scheduler/wake_signal.h"

namespace ebbinghaus::scheduler {

class Scheduler::Impl {
 public:
  Impl(Options options, std::unique_ptr<base::Engine> engine, std::shared_ptr<const text::TextModel> text,
       metrics::Metrics* metrics, const base::Clock* clock)
      : options_(std::move(options)),
        engine_(std::move(engine)),
        text_(std::move(text)),
        metrics_(metrics),
        clock_(clock),
        model_(engine_->model()),
        admission_({options_.default_mode, options_.default_preset, options_.random}, model_, text_),
        kv_capacity_bytes_(engine_->kv_capacity_bytes()),
        queue_({options_.max_batch, options_.max_queue, options_.max_queue_tokens}, metrics),
        loop_({options_.max_batch, options_.step, options_.slow_reader_timeout, options_.log_requests,
               options_.log_prompts},
              engine_.get(), text_.get(), &queue_, metrics, clock),
        thread_([this] { Run(); }) {
    metrics_->SetModelInfo(model_);
    metrics_->SetKvCapacityBytes(kv_capacity_bytes_);
  }

  ~Impl() {
    Drain(base::Duration::zero());
    thread_.join();
  }

  absl::StatusOr<std::shared_ptr<Mailbox>> Submit(GenerationRequest request, base::Violations* violations) {
    const base::GenerationMode mode = admission_.ModeOf(request);
    const base::TimePoint arrival = request.arrival;
    if (request.request_id.empty()) request.request_id = admission_.NewId();  // a refusal's log line needs one too
    const std::string request_id = request.request_id;
    const auto refuse = [&](metrics::Rejection reason, absl::Status status) {
      Refused(mode, arrival, request_id, reason, status);
      return status;
    };
    // Before any work is spent on it: an overloaded server must refuse cheaply.
    const Client client = ClientOf(request.identity, request.peer);
    if (std::optional<Refusal> refusal = queue_.CheckOpen(client, clock_->Now())) {
      return refuse(refusal->reason, refusal->status);
    }
    const std::function<bool()> abandoned = request.abandoned;
    std::optional<AdmittedRequest> admitted = admission_.Admit(std::move(request), *violations);
    if (abandoned && abandoned()) {  // the prompt may have been read in part only
      metrics_->RequestEnded(mode, absl::StatusCode::kCancelled, std::nullopt);
      return absl::CancelledError("the call was cancelled");
    }
    if (!admitted) return refuse(metrics::Rejection::kInvalidArgument, violations->ToStatus());
    auto mailbox = std::make_shared<Mailbox>(options_.mailbox_bytes, clock_);
    mailbox->SetCourier(courier_);
    mailbox->SetWake([signal = signal_] { signal->Notify(); });
    auto queued = std::make_unique<QueuedRequest>(QueuedRequest{*std::move(admitted), mailbox, clock_->Now()});
    if (std::optional<Refusal> refusal = queue_.Push(std::move(queued))) {
      return refuse(refusal->reason, refusal->status);
    }
    signal_->Notify();
    return mailbox;
  }

  // Lets the engine thread end within `time_left`.
  void BeginDrain(base::Duration time_left) {
    queue_.Close();
    const base::TimePoint deadline = clock_->Now() + time_left;
    std::lock_guard lock(mutex_);
    drain_deadline_ = drain_deadline_ ? std::min(*drain_deadline_, deadline) : deadline;
    signal_->Notify();
  }

  void Drain(base::Duration time_left) {
    BeginDrain(time_left);
    std::unique_lock lock(mutex_);
    condition_.wait(lock, [this] { return stopped_; });
  }

  Status status() const {
    Status status;
    {
      std::lock_guard lock(mutex_);
      if (drain_deadline_) status.state = stopped_ ? Status::State::kStopped : Status::State::kDraining;
    }
    const WaitingQueue::Counts waiting = queue_.waiting();
    status.queued = waiting.requests;
    status.queued_prompt_tokens = waiting.prompt_tokens;
    status.running = loop_.running_requests();
    status.kv_used_bytes = loop_.kv_used_bytes();
    status.kv_cached_bytes = loop_.kv_cached_bytes();
    status.kv_capacity_bytes = kv_capacity_bytes_;
    status.busy = loop_.busy();
    return status;
  }

  const base::ModelInfo& model() const { return model_; }

 private:
  // The engine thread, and the only one that touches the engine.
  void Run() {
    for (;;) {
      std::optional<base::TimePoint> drain_deadline;
      {
        std::lock_guard lock(mutex_);
        drain_deadline = drain_deadline_;
      }
      const Loop::Progress progress = loop_.RunOneStep(drain_deadline);
      // The queue was closed before the deadline was set, so nobody can come after this turn.
      if (drain_deadline && progress.idle) break;
      if (progress.stepped) continue;
      std::optional<base::Duration> timeout;
      if (progress.wake_at) timeout = std::max(*progress.wake_at - clock_->Now(), base::Duration::zero());
      signal_->Wait(timeout);
    }
    std::lock_guard lock(mutex_);
    stopped_ = true;
    condition_.notify_all();
  }

  void Refused(base::GenerationMode mode, base::TimePoint arrival, const std::string& request_id,
               metrics::Rejection reason, const absl::Status& status) {
    RequestSummary summary;
    summary.request_id = request_id.substr(0, kMaxRequestIdBytes);
    summary.mode = mode;
    summary.status = status;
    summary.duration = clock_->Now() - arrival;
    metrics_->RequestRejected(reason);
    metrics_->RequestEnded(mode, status.code(), std::nullopt);
    if (options_.log_requests) LogRequest(summary, nullptr);
  }

  const Options options_;
  const std::unique_ptr<base::Engine> engine_;
  const std::shared_ptr<const text::TextModel> text_;
  metrics::Metrics* const metrics_;
  const base::Clock* const clock_;
  const base::ModelInfo model_;
  const Admission admission_;
  const uint64_t kv_capacity_bytes_;
  // Mailboxes may outlive this, and ring it.
  const std::shared_ptr<WakeSignal> signal_ = std::make_shared<WakeSignal>();
  const std::shared_ptr<Courier> courier_ = std::make_shared<Courier>();
  WaitingQueue queue_;
  Loop loop_;

  mutable std::mutex mutex_;
  std::condition_variable condition_;
  std::optional<base::TimePoint> drain_deadline_;  // guarded by mutex_; set once draining
  bool stopped_ = false;                           // guarded by mutex_

  std::thread thread_;  // last: uses all of the above
};

Scheduler::Scheduler(Options options, std::unique_ptr<base::Engine> engine,
                     std::shared_ptr<const text::TextModel> text, metrics::Metrics* metrics, const base::Clock* clock)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(engine), std::move(text), metrics, clock)) {}

Scheduler::~Scheduler() = default;

absl::StatusOr<std::shared_ptr<Mailbox>> Scheduler::Submit(GenerationRequest request, base::Violations* violations) {
  return impl_->Submit(std::move(request), violations);
}

void Scheduler::Drain(base::Duration time_left) { impl_->Drain(time_left); }
void Scheduler::BeginDrain(base::Duration time_left) { impl_->BeginDrain(time_left); }

Status Scheduler::status() const { return impl_->status(); }

const base::ModelInfo& Scheduler::model() const { return impl_->model(); }

}  // namespace ebbinghaus::scheduler
