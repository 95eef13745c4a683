// Requests that wait for a sequence, and the ids of all that are underway.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/base/clock.h"
#include "server/metrics/metrics.h"
#include "server/scheduler/admission.h"
#include "server/scheduler/client.h"
#include "server/scheduler/fair_order.h"
#include "server/scheduler/mailbox.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::scheduler {

struct QueuedRequest {
  AdmittedRequest request;
  std::shared_ptr<Mailbox> mailbox;
  base::TimePoint queued;
  uint32_t overtaken = 0;  // engine thread: how many started while it waited for K/V memory
  FairOrder::Ticket ticket = 0;  // the queue's
};

struct QueueLimits {
  uint32_t max_batch = 16;
  uint32_t max_queue = 64;
  uint32_t max_queue_tokens = 1u << 20;
};

// Why a request was not taken, or had to leave.
struct Refusal {
  metrics::Rejection reason;
  absl::Status status;
};

// Clients take turns (FairOrder). At most max_queue requests wait beside those that free slots can
// take at once, so that a burst is not refused while slots are free. Where that is full, a client
// that has less underway than another takes the place of the other's newest. At most
// max_queue_tokens prompt tokens wait, except that each connection may have one request beyond that.
// Filled by RPC threads, emptied by the engine thread alone. Thread safe.
class WaitingQueue {
 public:
  // Keeps the gauges of waiting requests and tokens. `metrics` must outlive this.
  WaitingQueue(const QueueLimits& limits, metrics::Metrics* metrics)
      : limits_(limits), metrics_(metrics), order_(limits.max_batch) {}

  // A refusal that needs no look at the request, before work is spent on it. The longer others have
  // waited, the later a client that finds the queue full should come again (base::RetryDelay): until
  // then there is enough to do.
  std::optional<Refusal> CheckOpen(const Client& client, base::TimePoint now) const;
  // Takes the request, or says why not: draining, full (the limit is named), or its id is underway
  // already for the same owner.
  std::optional<Refusal> Push(std::unique_ptr<QueuedRequest> request);
  // Refuses everything from now on.
  void Close();

  // Engine thread. Whose turn it is among those not in `skipped`; null when nobody else waits. Valid
  // until the request is taken, also if it loses its place meanwhile.
  QueuedRequest* Next(absl::Span<QueuedRequest* const> skipped = {}) const;
  // Requires: it waits, or lost its place since TakeEvicted. It holds a slot until Release.
  std::unique_ptr<QueuedRequest> Take(const QueuedRequest* request);
  // Those for which `leaves` is true; they are released.
  std::vector<std::unique_ptr<QueuedRequest>> TakeIf(
      const std::function<bool(const QueuedRequest&)>& leaves);
  // Those that lost their place to other clients since the last call; they are released.
  std::vector<std::unique_ptr<QueuedRequest>> TakeEvicted();
  // What a request that lost its place is told.
  Refusal WhyEvicted(base::TimePoint now) const;
  // The request that was taken has ended; its slot is free and its id may come again.
  void Release(const QueuedRequest& request);
  // Whether those that wait lack K/V memory: then free slots help nobody, and what waits beyond
  // max_queue loses its place.
  void SetMemoryShort(bool memory_short);

  struct Counts {
    uint32_t requests = 0;
    uint64_t prompt_tokens = 0;
  };
  Counts waiting() const;
  size_t remembered_owners() const;  // bounded by what is underway
  // The earliest deadline of those that wait.
  std::optional<base::TimePoint> EarliestDeadline() const;

 private:
  using Requests = std::map<FairOrder::Ticket, std::unique_ptr<QueuedRequest>>;

  std::optional<Refusal> CheckOpenLocked(const Client& client, base::TimePoint now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Full() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RetryLater(absl::Status full, base::TimePoint now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Evict(FairOrder::Ticket ticket) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::unique_ptr<QueuedRequest> Remove(Requests::iterator request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Reported() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const QueueLimits limits_;
  metrics::Metrics* const metrics_;
  mutable Mutex mutex_;
  FairOrder order_ ABSL_GUARDED_BY(mutex_);  // of waiting_, and of those that hold a slot
  Requests waiting_ ABSL_GUARDED_BY(mutex_);
  Requests evicted_ ABSL_GUARDED_BY(mutex_);             // the engine thread may look at them still
  uint64_t prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;   // of waiting_
  FairOrder::Ticket last_ticket_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unordered_set<std::string> underway_ ABSL_GUARDED_BY(mutex_);  // owners with request ids
  bool memory_short_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ebbinghaus::scheduler
