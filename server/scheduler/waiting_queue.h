// Requests that wait for a sequence, and the ids of all that are underway.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/base/clock.h"
#include "server/metrics/metrics.h"
#include "server/scheduler/admission.h"
#include "server/scheduler/mailbox.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::scheduler {

struct QueuedRequest {
  AdmittedRequest request;
  std::shared_ptr<Mailbox> mailbox;
  base::TimePoint queued;
  uint32_t overtaken = 0;  // engine thread: how many that came later started while it waited for K/V memory
};

struct QueueLimits {
  uint32_t max_batch = 16;
  uint32_t max_queue = 64;
  uint32_t max_queue_tokens = 1u << 20;
};

// Why a request was not taken.
struct Refusal {
  metrics::Rejection reason;
  absl::Status status;
};

// Clients take turns: next is the one who got a sequence longest ago (or never did), of its requests the first to come.
// At most max_batch + max_queue requests are underway (waiting or running) at a time, so that
// a burst is not refused while slots are free; and at most max_queue_tokens prompt tokens wait, except that a
// single request may exceed that alone. Filled by RPC threads, emptied by the engine thread alone. Thread safe.
class WaitingQueue {
 public:
  // Keeps the gauges of waiting requests and tokens. `metrics` must outlive this.
  WaitingQueue(const QueueLimits& limits, metrics::Metrics* metrics) : limits_(limits), metrics_(metrics) {}

  // A refusal that needs no look at the request, before work is spent on it. The longer others have waited, the later
  // whoever finds the queue full should come again (base::RetryDelay): until then there is enough to do.
  std::optional<Refusal> CheckOpen(base::TimePoint now) const;
  // Takes the request, or says why not: draining, full (the limit is named), or its id is underway already.
  std::optional<Refusal> Push(std::unique_ptr<QueuedRequest> request);
  // Refuses everything from now on.
  void Close();

  // Engine thread. Whose turn it is among those not in `skipped`; null when nobody else waits. Valid until the request is
  // taken.
  QueuedRequest* Next(absl::Span<QueuedRequest* const> skipped = {}) const;
  // Requires: it waits. It counts as underway until Release.
  std::unique_ptr<QueuedRequest> Take(const QueuedRequest* request);
  // Those for which `leaves` is true; they count as underway until Release.
  std::vector<std::unique_ptr<QueuedRequest>> TakeIf(const std::function<bool(const QueuedRequest&)>& leaves);
  // The request has ended; its id may come again.
  void Release(const std::string& request_id);

  struct Counts {
    uint32_t requests = 0;
    uint64_t prompt_tokens = 0;
  };
  Counts waiting() const;
  size_t remembered_clients() const;  // bounded
  // The earliest deadline of those that wait.
  std::optional<base::TimePoint> EarliestDeadline() const;

 private:
  std::optional<Refusal> CheckOpenLocked(base::TimePoint now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RetryLater(absl::Status full, base::TimePoint now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetOldTurns() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Reported() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const QueueLimits limits_;
  metrics::Metrics* const metrics_;
  mutable Mutex mutex_;
  std::deque<std::unique_ptr<QueuedRequest>> waiting_ ABSL_GUARDED_BY(mutex_);
  uint64_t prompt_tokens_ ABSL_GUARDED_BY(mutex_) = 0;  // of waiting_
  std::unordered_set<std::string> underway_ ABSL_GUARDED_BY(mutex_);
  // By client, the number of the turn in which it last got a sequence; forgotten when nobody waits.
  std::unordered_map<std::string, uint64_t> last_turn_ ABSL_GUARDED_BY(mutex_);
  uint64_t turns_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace ebbinghaus::scheduler
