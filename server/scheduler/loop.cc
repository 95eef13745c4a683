#include "server/scheduler/loop.h"

#include <algorithm>
#include <array>
#include <exception>
#include <map>

#include "absl/strings/str_cat.h"
#include "server/base/retry.h"

namespace ebbinghaus::scheduler {
namespace {

using base::FinishReason;
using base::StepItem;
using base::StepOutcome;

absl::Status CancelledStatus() { return absl::CancelledError("the call was cancelled"); }

absl::Status Thrown(const std::exception& error) {
  return absl::InternalError(absl::StrCat("the engine failed: ", error.what()));
}

std::optional<base::TimePoint> Earlier(std::optional<base::TimePoint> a, std::optional<base::TimePoint> b) {
  if (!a || !b) return a ? a : b;
  return std::min(*a, *b);
}

bool Contains(const std::vector<QueuedRequest*>& requests, const QueuedRequest* request) {
  return std::find(requests.begin(), requests.end(), request) != requests.end();
}

bool Passed(const std::optional<base::TimePoint>& deadline, base::TimePoint now) {
  return deadline && *deadline <= now;
}

}  // namespace

Loop::Loop(const LoopOptions& options, base::Engine* engine, const text::TextModel* text, WaitingQueue* queue,
           metrics::Metrics* metrics, const base::Clock* clock)
    : options_(options),
      engine_(engine),
      text_(text),
      queue_(queue),
      metrics_(metrics),
      clock_(clock),
      budget_(options.step, options.max_batch) {}

base::Duration Loop::busy() const {
  const base::TimePoint began = turn_began_.load();
  return began == base::TimePoint::min() ? base::Duration::zero() : clock_->Now() - began;
}

Loop::Progress Loop::RunOneStep(std::optional<base::TimePoint> drain_deadline) {
  const base::TimePoint now = clock_->Now();
  turn_began_ = now;
  const bool last_step = Passed(drain_deadline, now);
  EndUnread(now);
  EndEvicted(now);
  EndLostRequests(now);
  EndLaggard(now);
  if (last_step) {
    EndUnstarted();
  } else {
    StartWaiting();
  }
  const std::vector<StepItem> plan = Plan(last_step, now);
  if (!plan.empty()) {
    PublishGauges();  // a step over a long prompt takes a while
    RunStep(plan, last_step);
  }
  const bool told = TellWeights(last_step);
  running_.erase(std::remove(running_.begin(), running_.end(), nullptr), running_.end());
  PublishGauges();
  TellEndings();
  Progress progress;
  progress.stepped = !plan.empty() || told;
  progress.idle = running_.empty() && queue_->waiting().requests == 0;
  if (!progress.stepped) progress.wake_at = NextDeadline(progress.idle ? std::nullopt : drain_deadline);
  turn_began_ = base::TimePoint::min();
  return progress;
}

// Cancelled, out of time, or not read for too long.
void Loop::EndLostRequests(base::TimePoint now) {
  for (Running& request : running_) {
    if (std::optional<absl::Status> status = WhyLost(*request, now)) EndRunning(request, *std::move(status));
  }
  running_.erase(std::remove(running_.begin(), running_.end(), nullptr), running_.end());
  const auto lost = queue_->TakeIf([now](const QueuedRequest& queued) {
    return queued.mailbox->cancelled() || Passed(queued.request.deadline, now);
  });
  for (const auto& queued : lost) {
    if (queued->mailbox->cancelled()) {
      CountCancel(*queued->mailbox, now);
      FailQueued(*queued, CancelledStatus());
    } else {
      FailQueued(*queued, absl::DeadlineExceededError("the deadline passed while the request waited"));
    }
  }
}

std::optional<absl::Status> Loop::WhyLost(const RunningRequest& request, base::TimePoint now) {
  if (request.mailbox()->cancelled()) {
    CountCancel(*request.mailbox(), now);
    return CancelledStatus();
  }
  if (Passed(request.deadline(), now)) {
    return absl::DeadlineExceededError(
        absl::StrCat("the deadline passed after ", request.generated_tokens(), " tokens"));
  }
  const std::optional<base::TimePoint>& paused = request.pauses().since();
  if (paused && now - *paused >= options_.slow_reader_timeout && request.mailbox()->full()) {
    GiveUpOn(*request.mailbox());
    return absl::CancelledError(absl::StrCat("the stream was not read for ",
                                             base::Seconds(options_.slow_reader_timeout), " s (slow-reader-timeout)"));
  }
  return std::nullopt;
}

void Loop::EndRunning(Running& request, absl::Status status) {
  Fail(*request, std::move(status));
  request.reset();
}

// Its reader takes too little of it.
void Loop::GiveUpOn(Mailbox& mailbox) {
  metrics_->CountBackpressure(metrics::Backpressure::kCancelled);
  mailbox.Abandon();
}

// Somebody waits for what those that run hold.
bool Loop::Contended() const {
  return (running_.size() >= options_.max_batch || !tried_.empty()) && queue_->waiting().requests > 0;
}

// While somebody waits, the one who lags behind most goes, if it is too much; one at a time, since that may be enough.
void Loop::EndLaggard(base::TimePoint now) {
  if (running_.empty() || !Contended()) return;
  const auto laggard = std::max_element(running_.begin(), running_.end(), [now](const Running& a, const Running& b) {
    return a->pauses().spent(now) < b->pauses().spent(now);
  });
  if ((*laggard)->pauses().spent(now) < options_.slow_reader_timeout) return;
  GiveUpOn(*(*laggard)->mailbox());
  EndRunning(*laggard, absl::CancelledError(absl::StrCat(
                           "the stream was read too slowly while others waited: it was paused for more than ",
                           base::Seconds(options_.slow_reader_timeout), " s in all (slow-reader-timeout)")));
  running_.erase(laggard);
}

// When nothing was read for the timeout, and for a few timeouts whatever was read.
base::TimePoint Loop::MustBeReadBy(const Unread& stream) const {
  const base::TimePoint read = std::max(stream.ended, stream.mailbox->last_read().value_or(stream.ended));
  return std::min(read + options_.slow_reader_timeout, stream.ended + kUnreadTimeouts * options_.slow_reader_timeout);
}

// Streams whose last events nobody takes.
void Loop::EndUnread(base::TimePoint now) {
  std::map<std::string, size_t> bytes;  // by owner
  size_t all = 0;
  std::erase_if(unread_, [&](const Unread& stream) {
    if (stream.mailbox->done()) return true;
    if (now >= MustBeReadBy(stream)) {
      GiveUpOn(*stream.mailbox);
      return true;
    }
    const size_t holds = stream.mailbox->bytes() + kUnreadStreamBytes;
    bytes[stream.owner] += holds;
    all += holds;
    return false;
  });
  while (all > kMaxUnreadBytes && !bytes.empty()) {
    const auto most = std::max_element(bytes.begin(), bytes.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto oldest = std::find_if(unread_.begin(), unread_.end(),
                                     [&](const Unread& stream) { return stream.owner == most->first; });
    if (oldest == unread_.end()) {  // its streams were read meanwhile, and so freed less than was counted
      all -= std::min(all, most->second);
      bytes.erase(most);
      continue;
    }
    const size_t holds = std::min(all, oldest->mailbox->bytes() + kUnreadStreamBytes);
    GiveUpOn(*oldest->mailbox);
    unread_.erase(oldest);
    most->second -= std::min(most->second, holds);
    all -= holds;
  }
}

// Draining has no time left: who has no token yet will not get one.
void Loop::EndUnstarted() {
  for (const auto& queued : queue_->TakeIf([](const QueuedRequest&) { return true; })) {
    metrics_->RequestRejected(metrics::Rejection::kDraining);
    FailQueued(*queued, absl::UnavailableError("the server is shutting down; retry elsewhere"));
  }
  for (Running& request : running_) {
    if (request->prompt_read()) continue;
    Finish(*request, FinishReason::kDraining);
    request.reset();
  }
  running_.erase(std::remove(running_.begin(), running_.end(), nullptr), running_.end());
}

void Loop::EndEvicted(base::TimePoint now) {
  for (const auto& evicted : queue_->TakeEvicted()) {
    Refusal refusal = queue_->WhyEvicted(now);
    metrics_->RequestRejected(refusal.reason);
    FailQueued(*evicted, std::move(refusal.status));
  }
}

void Loop::StartWaiting() {
  while (running_.size() < options_.max_batch) {
    QueuedRequest* next = NextToStart();
    if (next == nullptr) break;
    if (StartOne(*next) == Start::kNoMemory) {
      tried_.push_back(next);
      if (!Contains(lack_memory_, next)) lack_memory_.push_back(next);
    } else {
      for (QueuedRequest* passed : lack_memory_) ++passed->overtaken;
    }
  }
  queue_->SetMemoryShort(!tried_.empty());
  EndEvicted(clock_->Now());
}

// Of those that have been passed often enough, the first to be tried holds up all others.
QueuedRequest* Loop::NextToStart() const {
  for (QueuedRequest* waits : lack_memory_) {
    if (waits->overtaken >= kMaxOvertakes) return Contains(tried_, waits) ? nullptr : waits;
  }
  return queue_->Next(tried_);
}

// Takes it out of the queue, unless the engine has no K/V memory for it beside those that run.
Loop::Start Loop::StartOne(QueuedRequest& queued) {
  absl::StatusOr<base::SequenceId> sequence = absl::InternalError("");
  try {
    sequence = engine_->Add(*queued.request.spec);
  } catch (const std::exception& error) {
    sequence = Thrown(error);
  }
  const bool no_memory = absl::IsResourceExhausted(sequence.status());
  if (no_memory && base::RetryDelay(sequence.status()) && !running_.empty()) return Start::kNoMemory;
  // Before it leaves the queue, so that whoever asks sees it in one place or the other.
  running_count_ = static_cast<uint32_t>(running_.size()) + 1;
  std::unique_ptr<QueuedRequest> taken = queue_->Take(&queued);
  std::erase(lack_memory_, &queued);
  if (!sequence.ok()) {
    if (no_memory) metrics_->RequestRejected(metrics::Rejection::kKvMemory);
    queue_->Release(*taken);
    FailQueued(*taken, sequence.status());
    return Start::kDone;
  }
  const RunningContext context{engine_, text_, metrics_, options_.log_prompts};
  running_.push_back(
      std::make_unique<RunningRequest>(std::move(taken), *sequence, context, step_number_, clock_->Now()));
  return Start::kDone;
}

std::vector<StepItem> Loop::Plan(bool last_step, base::TimePoint now) {
  std::vector<SequenceView> views;
  uint32_t decoding = 0, running = 0;
  bool others = false;  // who do not owe for reports
  for (const Running& request : running_) {
    views.push_back(request->View(now));
    if (last_step) views.back().paused = false;
    if (request->ending()) views.back().paused = true;
    others |= !views.back().paused && !reports_.Owes(views.back().sequence);
  }
  for (SequenceView& view : views) {
    view.paused |= others && !last_step && reports_.Owes(view.sequence);
    if (view.paused) continue;
    ++running;
    decoding += view.unread_prompt_tokens == 0;
  }
  return PlanStep(views, budget_.PromptTokens(decoding, running));
}

void Loop::RunStep(const std::vector<StepItem>& plan, bool last_step) {
  ++step_number_;
  const base::TimePoint began = clock_->Now();
  std::vector<StepOutcome> outcomes = EngineStep(plan);
  const base::TimePoint ended = clock_->Now();
  metrics_->StepEnded(static_cast<uint32_t>(plan.size()));
  base::Duration took = ended - began;  // beside reports
  for (const StepOutcome& outcome : outcomes) took -= std::min(took, outcome.report_time);
  Learn(plan, took);
  reports_.Pay(took);
  size_t next = 0;  // the plan has the order of running_
  for (Running& request : running_) {
    if (next == plan.size() || plan[next].sequence != request->sequence()) continue;
    if (request->prompt_read()) {
      metrics_->AddDecodeTime(request->mode(), ended - began);
    } else {
      metrics_->AddPrefillTime(request->mode(), ended - began);
    }
    const size_t endings_before = endings_.size();
    Take(*request, plan[next], std::move(outcomes[next]), last_step, ended);
    if (endings_.size() > endings_before) request.reset();
    ++next;
  }
}

void Loop::Learn(const std::vector<StepItem>& plan, base::Duration took) {
  uint32_t decoding = 0, prompt_tokens = 0;
  for (const StepItem& item : plan) {
    decoding += item.prompt_tokens == 0;
    prompt_tokens += item.prompt_tokens;
  }
  budget_.Observe(decoding, prompt_tokens, took);
}

// One outcome per item, whatever the engine does.
std::vector<StepOutcome> Loop::EngineStep(const std::vector<StepItem>& plan) {
  absl::Status failure;
  try {
    std::vector<StepOutcome> outcomes = engine_->Step(plan);
    if (outcomes.size() == plan.size()) return outcomes;
    failure = absl::InternalError("the engine failed: not one outcome per sequence");
  } catch (const std::exception& error) {
    failure = Thrown(error);
  }
  std::vector<StepOutcome> outcomes(plan.size());
  for (size_t i = 0; i < plan.size(); ++i) {
    outcomes[i].sequence = plan[i].sequence;
    outcomes[i].status = failure;
  }
  return outcomes;
}

// Ends the request exactly if it leaves an entry in endings_.
void Loop::Take(RunningRequest& request, const StepItem& item, StepOutcome outcome, bool last_step,
                base::TimePoint now) {
  if (!outcome.status.ok()) {
    // Whatever the engine calls it, the request is not to blame.
    return Fail(request, absl::InternalError(outcome.status.message()));
  }
  base::Duration report = outcome.report_time;
  const base::TimePoint began = clock_->Now();
  try {
    auto end = request.OnStep(item, std::move(outcome), step_number_, last_step, now);
    if (!end.ok()) return Fail(request, end.status());
    if (request.wants_reports()) report += clock_->Now() - began;
    reports_.Owe(request.sequence(), report);
    if (!*end) return;
    if (request.wants_weights()) return request.BeginWeights(**end);
    Finish(request, **end);
  } catch (const std::exception& error) {
    Fail(request, Thrown(error));
  }
}

// Those that ended but for their token weights: a piece each in a turn. Returns whether there is more to do at once.
bool Loop::TellWeights(bool last_step) {
  bool told = false;
  for (Running& request : running_) {
    if (request == nullptr || !request->ending()) continue;
    try {
      while (request->TellWeights(last_step)) {
        told = true;
        if (!last_step) break;
      }
    } catch (const std::exception& error) {
      EndRunning(request, Thrown(error));
      continue;
    }
    if (!request->told_weights()) continue;
    Finish(*request, *request->ending());
    request.reset();
  }
  return told;
}

void Loop::Finish(RunningRequest& request, FinishReason reason) {
  std::optional<Finished> finished;
  try {
    finished = request.Finish(reason);
  } catch (const std::exception& error) {
    return Fail(request, Thrown(error));
  }
  metrics_->RequestFinished(request.mode(), reason);
  RequestSummary summary = request.Summary();
  summary.finished = reason;
  Leave(request, std::move(summary), *std::move(finished));
}

void Loop::Fail(RunningRequest& request, absl::Status status) {
  RequestSummary summary = request.Summary();
  summary.status = status;
  Leave(request, std::move(summary), std::move(status));
}

// It has left the queue.
void Loop::FailQueued(const QueuedRequest& queued, absl::Status status) {
  std::erase(lack_memory_, &queued);
  tried_.clear();
  RequestSummary summary = SummaryOf(queued.request);
  summary.status = status;
  summary.queue = clock_->Now() - queued.queued;
  Report(std::move(summary), queued.request.arrival, /*ran=*/false);
  endings_.push_back({queued.mailbox, queued.request.client.owner, std::move(status)});
}

void Loop::CountCancel(const Mailbox& mailbox, base::TimePoint now) {
  if (const std::optional<base::TimePoint> at = mailbox.cancelled_at()) metrics_->ObserveCancelLatency(now - *at);
}

// The sequence is freed, the id may come again, and the log has its line, before the reader hears of the end.
void Loop::Leave(RunningRequest& request, RequestSummary summary, Event last) {
  try {
    engine_->Remove(request.sequence());
  } catch (const std::exception& error) {
    LogError("remove_failed", {{"id", request.request_id()}, {"error", error.what()}});
  }
  tried_.clear();
  reports_.Forget(request.sequence());
  queue_->Release(request.queued());
  Report(std::move(summary), request.arrival(), /*ran=*/true);
  endings_.push_back({request.mailbox(), request.queued().request.client.owner, std::move(last)});
}

void Loop::Report(RequestSummary summary, base::TimePoint arrival, bool ran) {
  summary.duration = clock_->Now() - arrival;
  metrics_->RequestEnded(summary.mode, summary.status.code(),
                         ran ? std::make_optional(summary.duration) : std::nullopt);
  if (options_.log_requests) LogRequest(summary, options_.log_prompts ? text_->tokenizer.get() : nullptr);
}

void Loop::PublishGauges() {
  struct Sum {
    uint32_t requests = 0;
    uint64_t live_tokens = 0;
  };
  std::array<Sum, std::size(base::kAllModes)> sums;
  for (const Running& request : running_) {
    Sum& sum = sums[static_cast<size_t>(request->mode())];
    ++sum.requests;
    sum.live_tokens += request->live_tokens();
  }
  for (base::GenerationMode mode : base::kAllModes) {
    const Sum& sum = sums[static_cast<size_t>(mode)];
    metrics_->SetRunning(mode, sum.requests);
    metrics_->SetLive(mode, engine_->kv_used_bytes(mode), sum.live_tokens);
  }
  running_count_ = static_cast<uint32_t>(running_.size());
  kv_used_bytes_ = engine_->kv_used_bytes();
  kv_cached_bytes_ = engine_->kv_cached_bytes();
  metrics_->SetKvCachedBytes(kv_cached_bytes_);
}

void Loop::TellEndings() {
  const base::TimePoint now = clock_->Now();
  for (Ending& ending : endings_) {
    ending.mailbox->Push(std::move(ending.last));
    if (!ending.mailbox->done()) unread_.push_back({std::move(ending.mailbox), std::move(ending.owner), now});
  }
  endings_.clear();
}

std::optional<base::TimePoint> Loop::NextDeadline(std::optional<base::TimePoint> drain_deadline) const {
  std::optional<base::TimePoint> next = Earlier(drain_deadline, queue_->EarliestDeadline());
  const bool contended = Contended();
  for (const Running& request : running_) {
    next = Earlier(next, request->deadline());
    const std::optional<base::TimePoint>& paused = request->pauses().since();
    if (!paused) continue;
    next = Earlier(next, *paused + options_.slow_reader_timeout);
    if (contended) next = Earlier(next, *paused + options_.slow_reader_timeout - request->pauses().spent(*paused));
  }
  for (const Unread& stream : unread_) next = Earlier(next, MustBeReadBy(stream));
  return next;
}

}  // namespace ebbinghaus::scheduler
