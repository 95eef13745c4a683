// The one thing a request's engine side and its RPC side share: a bounded queue of events and a cancel mark.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

#include "server/scheduler/event.h"

namespace ebbinghaus::scheduler {

// Shared by the engine thread (Push, full, cancelled) and gRPC's callback threads (Pop, Cancel, OnReady). An
// object of its own, held by shared_ptr, because a reactor deletes itself while the engine may still push.
// Thread safe.
class Mailbox {
 public:
  explicit Mailbox(size_t capacity_bytes) : capacity_bytes_(capacity_bytes) {}

  // Engine side. Never blocks; an event is accepted even when full, so nothing is lost: the scheduler looks at full()
  // before it runs another step for this stream.
  void Push(Event event);
  bool full() const;
  bool cancelled() const;

  // RPC side. The oldest event, if any.
  std::optional<Event> Pop();
  // Calls `ready` once, from any thread, as soon as an event is there (at once if one is there already).
  void OnReady(std::function<void()> ready);
  // The client is gone or has lost interest; calls `on_cancel` (set by the scheduler) to wake it.
  void Cancel();
  void SetOnCancel(std::function<void()> on_cancel);

 private:
  const size_t capacity_bytes_;
  mutable std::mutex mutex_;
  std::deque<Event> events_;
  size_t bytes_ = 0;
  bool cancelled_ = false;
  std::function<void()> ready_;
  std::function<void()> on_cancel_;
};

}  // namespace ebbinghaus::scheduler
