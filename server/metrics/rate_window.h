// How many events the last ten seconds saw, without remembering each.
#pragma once

#include <array>
#include <cstdint>

#include "server/base/clock.h"

namespace ebbinghaus::metrics {

// A ring of tenths of a second. An event counts for at least 9.9 and at most 10 seconds. Not thread safe.
class RateWindow {
 public:
  static constexpr double kWindowSeconds = 10;

  void Add(base::TimePoint now, uint64_t events);
  // Events of the window that ends now, per second. Requires: now is not before the last Add.
  double PerSecond(base::TimePoint now) const;

 private:
  static constexpr int64_t kBuckets = 100;
  struct Bucket {
    int64_t tenth = INT64_MIN / 2;  // which tenth of a second, since the clock's epoch
    uint64_t events = 0;
  };
  static int64_t Tenth(base::TimePoint now);

  std::array<Bucket, kBuckets> buckets_;
};

}  // namespace ebbinghaus::metrics
