// Notices an engine that does not come back from a step.
#pragma once

#include <functional>

#include "server/base/clock.h"
#include "server/base/periodic.h"

namespace ebbinghaus {

// Asks `busy` several times per `timeout` on a thread of its own, and tells `on_change` true when it exceeds that, false
// when it is below again.
class Watchdog {
 public:
  // `busy`: for how long the present step has been running.
  Watchdog(base::Duration timeout, std::function<base::Duration()> busy, std::function<void(bool stuck)> on_change);

 private:
  void Look();

  const base::Duration timeout_;
  const std::function<base::Duration()> busy_;
  const std::function<void(bool)> on_change_;
  bool stuck_ = false;  // of the thread
  base::Periodic look_;  // last: uses all of the above
};

}  // namespace ebbinghaus
