#include "server/metrics/rate_window.h"

namespace ebbinghaus::metrics {

int64_t RateWindow::Tenth(base::TimePoint now) {
  using Tenths = std::chrono::duration<int64_t, std::ratio<1, 10>>;
  return std::chrono::floor<Tenths>(now.time_since_epoch()).count();
}

void RateWindow::Add(base::TimePoint now, uint64_t events) {
  const int64_t tenth = Tenth(now);
  Bucket& bucket = buckets_[static_cast<size_t>(((tenth % kBuckets) + kBuckets) % kBuckets)];
  if (bucket.tenth != tenth) bucket = {tenth, 0};
  bucket.events += events;
}

double RateWindow::PerSecond(base::TimePoint now) const {
  const int64_t tenth = Tenth(now);
  uint64_t events = 0;
  for (const Bucket& bucket : buckets_) {
    if (bucket.tenth > tenth - kBuckets && bucket.tenth <= tenth) events += bucket.events;
  }
  return static_cast<double>(events) / kWindowSeconds;
}

}  // namespace ebbinghaus::metrics
