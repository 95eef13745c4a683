// The one thing a request's engine side and its RPC side share: a bounded queue of events and a cancel mark.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "server/base/clock.h"
#include "server/scheduler/courier.h"
#include "server/scheduler/event.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::scheduler {

// An event of more than this is large: it costs a millisecond and more to send.
inline constexpr size_t kLargeEventBytes = 32 << 10;

// Shared by the engine thread (Push, full, cancelled, Abandon) and gRPC's callback threads (Pop, Cancel, OnReady). An
// object of its own, held by shared_ptr, because a reactor deletes itself while the engine may still push.
// Callbacks are called and destroyed outside the lock, so they may use the mailbox.
// Thread safe.
class Mailbox {
 public:
  // `clock`, if given, dates Cancel and must outlive this.
  explicit Mailbox(size_t capacity_bytes, const base::Clock* clock = nullptr)
      : capacity_bytes_(capacity_bytes), clock_(clock) {}

  // Engine side. Never blocks; an event is accepted even when full, so nothing is lost: the scheduler looks at full()
  // before it runs another step for this stream. After Cancel only the stream's end is kept, always as a status.
  void Push(Event event);
  // At least capacity_bytes wait to be read.
  bool full() const;
  bool cancelled() const;
  // What waits to be read.
  size_t bytes() const;
  // When the reader last took an event; unset before, or without a clock.
  std::optional<base::TimePoint> last_read() const;
  // Nobody needs it any more: the stream's end was taken, or nobody will, and the call that read it (SetHangUp) is over.
  bool done() const;
  // When Cancel came; unset before, or without a clock.
  std::optional<base::TimePoint> cancelled_at() const;
  // `wake` is called when Cancel comes, and whenever a full mailbox has room again. Set it before others know the
  // mailbox; it must stay callable for as long as the mailbox lives.
  void SetWake(std::function<void()> wake);

  // Who calls `ready` for large events, so that what turns them into messages holds up neither the engine's thread nor
  // gRPC's. Set it before others know the mailbox.
  void SetCourier(std::shared_ptr<Courier> courier);

  // The reader has not read for too long: as Cancel, and its side hangs up. What remains to be pushed is how it ends.
  void Abandon();

  // RPC side. How Abandon ends a call that may be stuck in a write; called at most once. Replaced by null when the call
  // has ended.
  void SetHangUp(std::function<void()> hang_up);
  // The oldest event, if any.
  std::optional<Event> Pop();
  // That is large, and this is not the courier's thread: OnReady will call there.
  bool for_courier() const;
  // Calls `ready` once, from any thread, as soon as an event is there (at once if one is there already; for a large one from
  // the courier's thread). Replaces a callback that was not called yet.
  void OnReady(std::function<void()> ready);
  // The client is gone or has lost interest: events that wait are dropped, the sequence is freed at the next step, and
  // the stream ends with a status, Cancelled also where it had been finished but not read to its end.
  void Cancel();

 private:
  bool NextIsLarge() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Call(std::function<void()> ready, bool large);

  struct Waiting {
    Event event;
    size_t bytes = 0;
  };

  const size_t capacity_bytes_;
  const base::Clock* const clock_;
  std::shared_ptr<Courier> courier_;
  mutable Mutex mutex_;
  std::deque<Waiting> events_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<base::TimePoint> cancelled_at_ ABSL_GUARDED_BY(mutex_), last_read_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> ready_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> hang_up_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ebbinghaus::scheduler
