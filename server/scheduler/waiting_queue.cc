#include "server/scheduler/waiting_queue.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/retry.h"

namespace ebbinghaus::scheduler {
namespace {

using metrics::Rejection;

// An id belongs to its owner: nobody else's requests are in its way.
std::string UnderwayKey(const AdmittedRequest& request) {
  return absl::StrCat(request.request_id, "\n", request.client.owner);  // ids hold no line end
}

}  // namespace

bool WaitingQueue::Full() const {
  const uint32_t holding = order_.holding();
  const uint32_t free_slots =
      memory_short_ || holding >= limits_.max_batch ? 0 : limits_.max_batch - holding;
  return waiting_.size() >= size_t{limits_.max_queue} + free_slots;
}

std::optional<Refusal> WaitingQueue::CheckOpenLocked(const Client& client,
                                                     base::TimePoint now) const {
  if (closed_) {
    return Refusal{Rejection::kDraining,
                   absl::UnavailableError("the server is shutting down; retry elsewhere")};
  }
  if (Full() && !order_.MakesRoomFor(client)) {
    return Refusal{Rejection::kQueueFull,
                   RetryLater(absl::ResourceExhaustedError(absl::StrCat(
                                  "the queue is full (max-batch ", limits_.max_batch,
                                  ", max-queue ", limits_.max_queue, "); retry later")),
                              now)};
  }
  return std::nullopt;
}

Refusal WaitingQueue::WhyEvicted(base::TimePoint now) const {
  MutexLock lock(mutex_);
  return {Rejection::kQueueFull,
          RetryLater(absl::ResourceExhaustedError(absl::StrCat(
                         "the queue is full (max-queue ", limits_.max_queue,
                         ") and the request lost its place to a client with less underway; "
                         "retry later")),
                     now)};
}

// An eighth of what the first in the queue has waited: so soon the queue is not empty, and to refuse
// the same clients again and again would take time from those who are served.
absl::Status WaitingQueue::RetryLater(absl::Status full, base::TimePoint now) const {
  if (waiting_.empty()) return full;
  const auto delay = std::chrono::duration_cast<std::chrono::milliseconds>(
                         now - waiting_.begin()->second->queued) / 8;
  return base::RetryAfter(std::move(full),
                          std::clamp(delay, base::kShortestRetryDelay, base::kLongestRetryDelay));
}

std::optional<Refusal> WaitingQueue::CheckOpen(const Client& client, base::TimePoint now) const {
  MutexLock lock(mutex_);
  return CheckOpenLocked(client, now);
}

std::optional<Refusal> WaitingQueue::Push(std::unique_ptr<QueuedRequest> request) {
  const uint64_t tokens = request->request.spec->prompt.size();
  const Client& client = request->request.client;
  MutexLock lock(mutex_);
  if (underway_.count(UnderwayKey(request->request)) > 0) {
    return Refusal{Rejection::kDuplicateId,
                   absl::AlreadyExistsError("request_id: a request with this id is underway")};
  }
  const base::TimePoint now = request->queued;
  if (std::optional<Refusal> refusal = CheckOpenLocked(client, now)) return refusal;
  const bool first_of_client = order_.waiting(client) == 0;
  if (!first_of_client && prompt_tokens_ + tokens > limits_.max_queue_tokens) {
    return Refusal{Rejection::kQueueTokens,
                   RetryLater(absl::ResourceExhaustedError(
                                  absl::StrCat("too many prompt tokens wait (max-queue-tokens ",
                                               limits_.max_queue_tokens, "); retry later")),
                              now)};
  }
  if (Full()) Evict(*order_.MakesRoomFor(client));
  underway_.insert(UnderwayKey(request->request));
  request->ticket = ++last_ticket_;
  order_.Wait(request->ticket, client);
  waiting_.emplace(request->ticket, std::move(request));
  prompt_tokens_ += tokens;
  Reported();
  return std::nullopt;
}

// It keeps its memory until the engine thread has looked away.
void WaitingQueue::Evict(FairOrder::Ticket ticket) {
  const auto found = waiting_.find(ticket);
  order_.Leave(ticket);
  prompt_tokens_ -= found->second->request.spec->prompt.size();
  evicted_.insert(waiting_.extract(found));
}

void WaitingQueue::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
}

QueuedRequest* WaitingQueue::Next(absl::Span<QueuedRequest* const> skipped) const {
  MutexLock lock(mutex_);
  const std::optional<FairOrder::Ticket> next = order_.Next([skipped](FairOrder::Ticket ticket) {
    return std::none_of(skipped.begin(), skipped.end(),
                        [ticket](const QueuedRequest* r) { return r->ticket == ticket; });
  });
  return next ? waiting_.at(*next).get() : nullptr;
}

std::unique_ptr<QueuedRequest> WaitingQueue::Remove(Requests::iterator request) {
  std::unique_ptr<QueuedRequest> removed = std::move(request->second);
  prompt_tokens_ -= removed->request.spec->prompt.size();
  waiting_.erase(request);
  return removed;
}

std::unique_ptr<QueuedRequest> WaitingQueue::Take(const QueuedRequest* request) {
  MutexLock lock(mutex_);
  const FairOrder::Ticket ticket = request->ticket;
  std::unique_ptr<QueuedRequest> taken;
  if (const auto found = waiting_.find(ticket); found != waiting_.end()) {
    taken = Remove(found);
  } else {  // it lost its place while it got its turn: the turn counts
    taken = std::move(evicted_.extract(ticket).mapped());
    order_.Wait(ticket, taken->request.client);
  }
  order_.Start(ticket);
  Reported();
  return taken;
}

std::vector<std::unique_ptr<QueuedRequest>> WaitingQueue::TakeIf(
    const std::function<bool(const QueuedRequest&)>& leaves) {
  std::vector<std::unique_ptr<QueuedRequest>> taken;
  MutexLock lock(mutex_);
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    const auto request = at++;
    if (!leaves(*request->second)) continue;
    order_.Leave(request->first);
    underway_.erase(UnderwayKey(request->second->request));
    taken.push_back(Remove(request));
  }
  if (!taken.empty()) Reported();
  return taken;
}

std::vector<std::unique_ptr<QueuedRequest>> WaitingQueue::TakeEvicted() {
  std::vector<std::unique_ptr<QueuedRequest>> taken;
  MutexLock lock(mutex_);
  for (auto& [ticket, request] : evicted_) {
    underway_.erase(UnderwayKey(request->request));
    taken.push_back(std::move(request));
  }
  evicted_.clear();
  return taken;
}

void WaitingQueue::Release(const QueuedRequest& request) {
  MutexLock lock(mutex_);
  order_.Leave(request.ticket);
  underway_.erase(UnderwayKey(request.request));
}

void WaitingQueue::SetMemoryShort(bool memory_short) {
  MutexLock lock(mutex_);
  memory_short_ = memory_short;
  if (!memory_short || waiting_.size() <= limits_.max_queue) return;
  while (waiting_.size() > limits_.max_queue) Evict(*order_.NewestOfLargest());
  Reported();
}

WaitingQueue::Counts WaitingQueue::waiting() const {
  MutexLock lock(mutex_);
  return {static_cast<uint32_t>(waiting_.size()), prompt_tokens_};
}

size_t WaitingQueue::remembered_owners() const {
  MutexLock lock(mutex_);
  return order_.owners();
}

std::optional<base::TimePoint> WaitingQueue::EarliestDeadline() const {
  std::optional<base::TimePoint> earliest;
  MutexLock lock(mutex_);
  for (const auto& [ticket, request] : waiting_) {
    const std::optional<base::TimePoint>& deadline = request->request.deadline;
    if (deadline && (!earliest || *deadline < *earliest)) earliest = deadline;
  }
  return earliest;
}

// Under the lock, so that the gauges never show an older state than the queue's.
void WaitingQueue::Reported() {
  metrics_->SetQueued(static_cast<uint32_t>(waiting_.size()), prompt_tokens_);
}

}  // namespace ebbinghaus::scheduler
