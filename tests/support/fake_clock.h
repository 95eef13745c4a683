// A clock that stands still until a test moves it.
#pragma once

#include <atomic>

#include "server/base/clock.h"

namespace ebbinghaus::support {

// Thread safe.
class FakeClock final : public base::Clock {
 public:
  base::TimePoint Now() const override { return base::TimePoint(base::Duration(ticks_.load())); }
  void Advance(base::Duration by) { ticks_ += by.count(); }

 private:
  std::atomic<base::Duration::rep> ticks_{base::Duration(std::chrono::hours(1)).count()};
};

}  // namespace ebbinghaus::support
