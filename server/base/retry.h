// Whether, and when, it helps to ask again after ResourceExhausted.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ebbinghaus::base {

inline constexpr std::chrono::milliseconds kShortestRetryDelay{1000}, kLongestRetryDelay{10'000};
inline constexpr char kRetryPayload[] = "ebbinghaus/retry-after-ms";

// Marks the error of a request that needs more than there is even when nothing else runs: clients get no hint to retry.
inline absl::Status NeverFits(absl::Status status) {
  status.SetPayload(kRetryPayload, absl::Cord("never"));
  return status;
}

// Marks when clients should come again.
inline absl::Status RetryAfter(absl::Status status, std::chrono::milliseconds delay) {
  status.SetPayload(kRetryPayload, absl::Cord(absl::StrCat(delay.count())));
  return status;
}

// When to ask again: what RetryAfter marked, else kShortestRetryDelay; nullopt where it does not help, which is after
// NeverFits and any other code.
inline std::optional<std::chrono::milliseconds> RetryDelay(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status)) return std::nullopt;
  const auto mark = status.GetPayload(kRetryPayload);
  if (!mark) return kShortestRetryDelay;
  int64_t delay = 0;
  if (!absl::SimpleAtoi(std::string(*mark), &delay)) return std::nullopt;
  return std::chrono::milliseconds(delay);
}

}  // namespace ebbinghaus::base
