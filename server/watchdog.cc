#include "server/watchdog.h"

#include <algorithm>
#include <utility>

namespace ebbinghaus {

Watchdog::Watchdog(base::Duration timeout, std::function<base::Duration()> busy, std::function<void(bool)> on_change)
    : timeout_(timeout), busy_(std::move(busy)), on_change_(std::move(on_change)), thread_([this] { Run(); }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Watchdog::Run() {
  const base::Duration interval = std::clamp<base::Duration>(timeout_ / 8, std::chrono::milliseconds(1), std::chrono::seconds(1));
  bool stuck = false;
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, interval, [this] { return ends_; })) {
    const bool now = busy_() > timeout_;
    if (now != stuck) on_change_(now);
    stuck = now;
  }
}

}  // namespace ebbinghaus
