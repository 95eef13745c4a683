// The forgetting curve, the one formula that kernels and memory share (memory-spec 2.4, 4.2, 4.3).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "server/base/generation.h"
#include "server/base/ids.h"

namespace ebbinghaus::base {

// Time units since the last reset: t = dt * (n - a).
inline double ElapsedTime(Tick now, Tick last_reset, double time_step) {
  return time_step * static_cast<double>(static_cast<int64_t>(now) - last_reset);
}

// R = exp(-t / S), in (0, 1] up to underflow. Requires: strength > 0, elapsed >= 0.
inline double Retention(double elapsed, double strength) { return std::exp(-elapsed / strength); }

// How a layer's attention weighs its slots while decoding. kNone for baseline, sparse_attention,
// and the layers that soft_delete leaves alone.
struct AttentionWeighting {
  enum class Form { kNone, kLogBias, kKvScale };
  Form form = Form::kNone;
  double time_step = 0;
  double floor = 1;
  double ceiling = 1;

  // clamp(R, floor, ceiling) of one slot at clock `now` (spec 4.2).
  double Weight(Tick now, Tick last_reset, float strength) const {
    return std::clamp(Retention(ElapsedTime(now, last_reset, time_step), strength), floor, ceiling);
  }
};

}  // namespace ebbinghaus::base
