#include "server/watchdog.h"

#include <algorithm>
#include <utility>

namespace ebbinghaus {

Watchdog::Watchdog(base::Duration timeout, std::function<base::Duration()> busy, std::function<void(bool)> on_change)
    : timeout_(timeout),
      busy_(std::move(busy)),
      on_change_(std::move(on_change)),
      look_(std::clamp<base::Duration>(timeout / 8, std::chrono::milliseconds(1), std::chrono::seconds(1)),
            [this] { Look(); }) {}

void Watchdog::Look() {
  const bool stuck = busy_() > timeout_;
  if (stuck != stuck_) on_change_(stuck);
  stuck_ = stuck;
}

}  // namespace ebbinghaus
