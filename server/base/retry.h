// Whether it helps to ask again.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/cord.h"

namespace ebbinghaus::base {

inline constexpr char kNeverFits[] = "ebbinghaus/never-fits";

// Marks the error of a request that needs more than there is even when nothing else runs: clients get no hint to retry.
inline absl::Status NeverFits(absl::Status status) {
  status.SetPayload(kNeverFits, absl::Cord("1"));
  return status;
}

inline bool RetryMayHelp(const absl::Status& status) { return !status.GetPayload(kNeverFits).has_value(); }

}  // namespace ebbinghaus::base
