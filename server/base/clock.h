// Time as a parameter: production code takes a Clock, tests hand in one they advance themselves.
#pragma once

#include <chrono>

namespace ebbinghaus::base {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

// Seconds as a real number, for metrics and rates.
inline double Seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;  // monotonic; thread safe
};

class SteadyClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace ebbinghaus::base
