// Something that is done again and again on a thread of its own.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "server/base/clock.h"

namespace ebbinghaus::base {

// Calls `task` after every `interval`, first after one interval has passed, until destroyed; the destructor returns once a
// call under way has ended.
class Periodic {
 public:
  Periodic(Duration interval, std::function<void()> task)
      : interval_(interval), task_(std::move(task)), thread_([this] { Run(); }) {}
  Periodic(const Periodic&) = delete;
  Periodic& operator=(const Periodic&) = delete;
  ~Periodic() {
    {
      std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    condition_.notify_one();
    thread_.join();
  }

 private:
  void Run() {
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        if (condition_.wait_for(lock, interval_, [this] { return stopped_; })) return;
      }
      task_();
    }
  }

  const Duration interval_;
  const std::function<void()> task_;
  std::mutex mutex_;
  std::condition_variable condition_;
  bool stopped_ = false;  // guarded by mutex_
  std::thread thread_;    // last: uses all of the above
};

}  // namespace ebbinghaus::base
