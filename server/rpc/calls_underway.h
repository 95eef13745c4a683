// How many calls are underway, for whoever waits for their end.
#pragma once

#include <condition_variable>
#include <memory>

#include "server/base/clock.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {

// Must outlive what Begin returns. Thread safe.
class CallsUnderway {
 public:
  // Counts a call until the last copy of this goes.
  std::shared_ptr<void> Begin() {
    Count(1);
    return {nullptr, [this](void*) { Count(-1); }};
  }

  // Whether there was none at some moment before `timeout` had passed.
  bool WaitForNone(base::Duration timeout) ABSL_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock lock(mutex_);
    return none_.wait_for(lock, timeout, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return calls_ == 0; });
  }

 private:
  void Count(int change) {
    scheduler::MutexLock lock(mutex_);
    calls_ += change;
    if (calls_ == 0) none_.notify_all();
  }

  scheduler::Mutex mutex_;
  std::condition_variable_any none_;
  int calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ebbinghaus::rpc
