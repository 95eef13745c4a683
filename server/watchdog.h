// Notices an engine that does not come back from a step.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "server/base/clock.h"

namespace ebbinghaus {

// Asks `busy` several times per `timeout` on a thread of its own, and tells `on_change` true when it exceeds that, false
// when it is below again.
class Watchdog {
 public:
  // `busy`: for how long the present step has been running.
  Watchdog(base::Duration timeout, std::function<base::Duration()> busy, std::function<void(bool stuck)> on_change);
  ~Watchdog();  // returns when the thread has ended

 private:
  void Run();

  const base::Duration timeout_;
  const std::function<base::Duration()> busy_;
  const std::function<void(bool)> on_change_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ends_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace ebbinghaus
