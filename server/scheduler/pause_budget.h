// How far a reader lags behind in all, so that reading a little now and then does not hold a sequence for ever.
#pragma once

#include <algorithm>
#include <chrono>
#include <optional>

#include "server/base/clock.h"

namespace ebbinghaus::scheduler {

// The time for which a stream has been paused, less what its tokens earned: so a reader that takes at least ten tokens a
// second is never behind. Nothing is saved up. Plain state, one thread.
class PauseBudget {
 public:
  static constexpr base::Duration kPerToken = std::chrono::milliseconds(100);

  // Whether the reader leaves no room at the moment.
  void Set(bool paused, base::TimePoint now) {
    if (!paused && since_) spent_ += now - *since_;
    if (!paused) since_.reset();
    if (paused && !since_) since_ = now;
  }
  void EarnToken() { spent_ -= std::min(spent_, kPerToken); }

  // Since when without a break.
  const std::optional<base::TimePoint>& since() const { return since_; }
  base::Duration spent(base::TimePoint now) const {
    return spent_ + (since_ ? now - *since_ : base::Duration::zero());
  }

 private:
  base::Duration spent_{};
  std::optional<base::TimePoint> since_;
};

}  // namespace ebbinghaus::scheduler
