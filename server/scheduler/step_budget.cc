#include "server/scheduler/step_budget.h"

#include <algorithm>

namespace ebbinghaus::scheduler {
namespace {

constexpr uint32_t kFirstTokens = 64;  // before anything is known
constexpr double kNewest = 0.2;        // weight of the latest step in the running means

void Learn(double& mean, double seconds) { mean = mean == 0 ? seconds : (1 - kNewest) * mean + kNewest * seconds; }

}  // namespace

StepBudget::StepBudget(const StepLimits& limits, uint32_t max_batch)
    : limits_(limits), decode_seconds_(max_batch + 1, 0.0) {}

void StepBudget::Observe(uint32_t decoding, uint32_t prompt_tokens, base::Duration took) {
  const double seconds = base::Seconds(took);
  if (seconds <= 0) return;
  if (prompt_tokens == 0) {
    if (decoding < decode_seconds_.size()) Learn(decode_seconds_[decoding], seconds);
    return;
  }
  const double decode = DecodeSeconds(decoding);
  if (decoding > 0 && decode == 0) return;  // cannot be told apart
  // A step that read took longer than one that did not; where the mean says otherwise, it is out of date.
  const double reading = std::max(seconds - decode, 0.1 * seconds);
  Learn(prompt_token_seconds_, reading / prompt_tokens);
}

uint32_t StepBudget::PromptTokens(uint32_t decoding, uint32_t running) const {
  uint32_t tokens = kFirstTokens;
  if (prompt_token_seconds_ > 0) {
    const double decode = DecodeSeconds(running);
    const double seconds = decoding == 0 || decode == 0
                               ? base::Seconds(limits_.alone)
                               : std::max(limits_.share * decode, base::Seconds(limits_.unnoticed));
    tokens = static_cast<uint32_t>(std::min(seconds / prompt_token_seconds_, static_cast<double>(limits_.most_tokens)));
  }
  return std::clamp(tokens, limits_.least_tokens, limits_.most_tokens);
}

// Where this number of sequences was never seen: that of the nearest smaller one, which is at most what it takes; else in
// proportion to the nearest larger one. 0: nothing is known.
double StepBudget::DecodeSeconds(uint32_t decoding) const {
  const uint32_t largest = static_cast<uint32_t>(decode_seconds_.size()) - 1;
  if (decoding == 0) return 0;
  for (uint32_t n = std::min(decoding, largest); n > 0; --n) {
    if (decode_seconds_[n] > 0) return decode_seconds_[n];
  }
  for (uint32_t n = decoding + 1; n <= largest; ++n) {
    if (decode_seconds_[n] > 0) return decode_seconds_[n] * decoding / n;
  }
  return 0;
}

}  // namespace ebbinghaus::scheduler
