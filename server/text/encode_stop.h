// Whether to go on encoding. Private to this room.
#pragma once

#include <cstddef>
#include <cstdint>

#include "server/text/tokenizer.h"

namespace ebbinghaus::text {

// Asks a caller's hook now and then, as cheaply as inner loops need it. Not thread safe; the limits
// must outlive it.
class EncodeStop {
 public:
  explicit EncodeStop(const EncodeLimits& limits) : limits_(limits) {}

  // True once `ids` are enough or the caller has cancelled.
  bool Now(size_t ids) { return ids >= limits_.max_ids || Cancelled(1); }

  // `work`: what was done since the last call, in steps of some ten nanoseconds.
  bool Cancelled(size_t work) {
    done_ += work;
    if (cancelled_ || done_ < kInterval || !limits_.cancelled) return cancelled_;
    done_ = 0;
    return cancelled_ = limits_.cancelled();
  }

 private:
  static constexpr uint64_t kInterval = 1 << 14;
  const EncodeLimits& limits_;
  uint64_t done_ = kInterval;  // the first call asks
  bool cancelled_ = false;
};

}  // namespace ebbinghaus::text
