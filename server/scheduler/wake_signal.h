// How other threads tell the engine thread that there may be something to do.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>

#include "server/base/clock.h"

namespace ebbinghaus::scheduler {

// A notification that is never lost: one that comes while nobody waits ends the next wait at once. Thread safe.
class WakeSignal {
 public:
  void Notify() {
    {
      std::lock_guard lock(mutex_);
      notified_ = true;
    }
    condition_.notify_one();
  }

  // Returns after a notification since the last Wait, or after `timeout`; without one it waits as long as it takes.
  void Wait(std::optional<base::Duration> timeout) {
    std::unique_lock lock(mutex_);
    if (timeout) {
      condition_.wait_for(lock, *timeout, [this] { return notified_; });
    } else {
      condition_.wait(lock, [this] { return notified_; });
    }
    notified_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool notified_ = false;  // guarded by mutex_
};

}  // namespace ebbinghaus::scheduler
