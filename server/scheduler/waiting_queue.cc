#include "server/scheduler/waiting_queue.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::scheduler {

using metrics::Rejection;

std::optional<Refusal> WaitingQueue::CheckOpenLocked() const {
  if (closed_) {
    return Refusal{Rejection::kDraining, absl::UnavailableError("the server is shutting down; retry elsewhere")};
  }
  if (underway_.size() >= static_cast<size_t>(limits_.max_batch) + limits_.max_queue) {
    return Refusal{Rejection::kQueueFull,
                   absl::ResourceExhaustedError(absl::StrCat("the queue is full (max-batch ", limits_.max_batch,
                                                             ", max-queue ", limits_.max_queue, "); retry later"))};
  }
  return std::nullopt;
}

std::optional<Refusal> WaitingQueue::CheckOpen() const {
  MutexLock lock(mutex_);
  return CheckOpenLocked();
}

std::optional<Refusal> WaitingQueue::Push(std::unique_ptr<QueuedRequest> request) {
  const uint64_t tokens = request->request.spec->prompt.size();
  MutexLock lock(mutex_);
  if (underway_.count(request->request.request_id) > 0) {
    return Refusal{Rejection::kDuplicateId, absl::AlreadyExistsError("request_id: a request with this id is underway")};
  }
  if (std::optional<Refusal> refusal = CheckOpenLocked()) return refusal;
  if (!waiting_.empty() && prompt_tokens_ + tokens > limits_.max_queue_tokens) {
    return Refusal{Rejection::kQueueTokens,
                   absl::ResourceExhaustedError(absl::StrCat("too many prompt tokens wait (max-queue-tokens ",
                                                             limits_.max_queue_tokens, "); retry later"))};
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

const QueuedRequest* WaitingQueue::Front() const {
  MutexLock lock(mutex_);
  return waiting_.empty() ? nullptr : waiting_.front().get();
}

std::unique_ptr<QueuedRequest> WaitingQueue::TakeFront() {
  MutexLock lock(mutex_);
  std::unique_ptr<QueuedRequest> front = std::move(waiting_.front());
  waiting_.pop_front();
  prompt_tokens_ -= front->request.spec->prompt.size();
  Reported();
  return front;
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
