#include "server/scheduler/waiting_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/retry.h"

namespace ebbinghaus::scheduler {

using metrics::Rejection;

namespace {

constexpr size_t kMaxClients = 4096;  // whose turns are remembered

}  // namespace

std::optional<Refusal> WaitingQueue::CheckOpenLocked(base::TimePoint now) const {
  if (closed_) {
    return Refusal{Rejection::kDraining, absl::UnavailableError("the server is shutting down; retry elsewhere")};
  }
  if (underway_.size() >= static_cast<size_t>(limits_.max_batch) + limits_.max_queue) {
    return Refusal{Rejection::kQueueFull,
                   RetryLater(absl::ResourceExhaustedError(absl::StrCat("the queue is full (max-batch ", limits_.max_batch,
                                                                        ", max-queue ", limits_.max_queue, "); retry later")),
                              now)};
  }
  return std::nullopt;
}

// An eighth of what the first in the queue has waited: so soon the queue is not empty, and to refuse the same clients again and
// again would take time from those who are served.
absl::Status WaitingQueue::RetryLater(absl::Status full, base::TimePoint now) const {
  if (waiting_.empty()) return full;
  const auto delay = std::chrono::duration_cast<std::chrono::milliseconds>(now - waiting_.front()->queued) / 8;
  return base::RetryAfter(std::move(full), std::clamp(delay, base::kShortestRetryDelay, base::kLongestRetryDelay));
}

std::optional<Refusal> WaitingQueue::CheckOpen(base::TimePoint now) const {
  MutexLock lock(mutex_);
  return CheckOpenLocked(now);
}

std::optional<Refusal> WaitingQueue::Push(std::unique_ptr<QueuedRequest> request) {
  const uint64_t tokens = request->request.spec->prompt.size();
  MutexLock lock(mutex_);
  if (underway_.count(request->request.request_id) > 0) {
    return Refusal{Rejection::kDuplicateId, absl::AlreadyExistsError("request_id: a request with this id is underway")};
  }
  const base::TimePoint now = request->queued;
  if (std::optional<Refusal> refusal = CheckOpenLocked(now)) return refusal;
  if (!waiting_.empty() && prompt_tokens_ + tokens > limits_.max_queue_tokens) {
    return Refusal{Rejection::kQueueTokens,
                   RetryLater(absl::ResourceExhaustedError(absl::StrCat("too many prompt tokens wait (max-queue-tokens ",
                                                                        limits_.max_queue_tokens, "); retry later")),
                              now)};
  }
  underway_.insert(request->request.request_id);
  waiting_.push_back(std::move(request));
  prompt_tokens_ += tokens;
  Reported();
  return std::nullopt;
}

void WaitingQueue::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

QueuedRequest* WaitingQueue::Next(absl::Span<QueuedRequest* const> skipped) const {
  MutexLock lock(mutex_);
  QueuedRequest* next = nullptr;
  uint64_t longest_ago = 0;
  for (const std::unique_ptr<QueuedRequest>& request : waiting_) {
    if (std::find(skipped.begin(), skipped.end(), request.get()) != skipped.end()) continue;
    const auto found = last_turn_.find(request->request.client);
    const uint64_t turn = found == last_turn_.end() ? 0 : found->second;
    if (next != nullptr && turn >= longest_ago) continue;
    next = request.get();
    longest_ago = turn;
    if (turn == 0) break;
  }
  return next;
}

std::unique_ptr<QueuedRequest> WaitingQueue::Take(const QueuedRequest* request) {
  MutexLock lock(mutex_);
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [=](const auto& r) { return r.get() == request; });
  std::unique_ptr<QueuedRequest> taken = std::move(*found);
  waiting_.erase(found);
  prompt_tokens_ -= taken->request.spec->prompt.size();
  if (waiting_.empty()) {
    last_turn_.clear();
  } else {
    last_turn_[taken->request.client] = ++turns_;
    ForgetOldTurns();
  }
  Reported();
  return taken;
}

// Clients come and go while the queue is never empty. Those with the oldest turns lose what little they were behind.
void WaitingQueue::ForgetOldTurns() {
  if (last_turn_.size() < kMaxClients) return;
  std::erase_if(last_turn_, [this](const auto& entry) { return entry.second + kMaxClients / 2 < turns_; });
}

std::vector<std::unique_ptr<QueuedRequest>> WaitingQueue::TakeIf(
    const std::function<bool(const QueuedRequest&)>& leaves) {
  std::vector<std::unique_ptr<QueuedRequest>> taken;
  MutexLock lock(mutex_);
  std::deque<std::unique_ptr<QueuedRequest>> stay;
  for (std::unique_ptr<QueuedRequest>& request : waiting_) {
    if (leaves(*request)) {
      prompt_tokens_ -= request->request.spec->prompt.size();
      taken.push_back(std::move(request));
    } else {
      stay.push_back(std::move(request));
    }
  }
  waiting_.swap(stay);
  if (!taken.empty()) Reported();
  return taken;
}

void WaitingQueue::Release(const std::string& request_id) {
  MutexLock lock(mutex_);
  underway_.erase(request_id);
}

WaitingQueue::Counts WaitingQueue::waiting() const {
  MutexLock lock(mutex_);
  return {static_cast<uint32_t>(waiting_.size()), prompt_tokens_};
}

size_t WaitingQueue::remembered_clients() const {
  MutexLock lock(mutex_);
  return last_turn_.size();
}

std::optional<base::TimePoint> WaitingQueue::EarliestDeadline() const {
  std::optional<base::TimePoint> earliest;
  MutexLock lock(mutex_);
  for (const auto& request : waiting_) {
    const std::optional<base::TimePoint>& deadline = request->request.deadline;
    if (deadline && (!earliest || *deadline < *earliest)) earliest = deadline;
  }
  return earliest;
}

// Under the lock, so that the gauges never show an older state than the queue's.
void WaitingQueue::Reported() { metrics_->SetQueued(static_cast<uint32_t>(waiting_.size()), prompt_tokens_); }

}  // namespace ebbinghaus::scheduler
