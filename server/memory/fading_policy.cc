#include "server/memory/fading_policy.h"

#include <algorithm>
#include <limits>

namespace ebbinghaus::memory {
namespace {

// State is fp32; a tiny positive number must not become 0, which would divide by zero (strength) or
// reset what nobody looked at (threshold).
float Positive(double value) {
  using Limits = std::numeric_limits<float>;
  return static_cast<float>(std::clamp<double>(value, Limits::min(), Limits::max()));
}

}  // namespace

base::Position FadingPolicy::FirstObservedRow(base::Position prompt_tokens) const {
  base::Position observed = 1;
  switch (parameters_.prompt_observation) {
    case base::PromptObservation::kLast:
      break;
    case base::PromptObservation::kWindow:
      observed = parameters_.prompt_window_tokens;
      break;
    case base::PromptObservation::kAll:
      observed = prompt_tokens;
      break;
  }
  return prompt_tokens - std::min(prompt_tokens, observed);
}

float FadingPolicy::ObservationGain(uint32_t step) const {
  const uint32_t interval = parameters_.observe_interval;
  return step % interval == 0 ? static_cast<float>(interval) : 0.0f;
}

RetentionState FadingPolicy::NewState(uint32_t layers) const {
  return RetentionState(
      layers,
      {.initial_strength = Positive(parameters_.initial_strength),
       .reset_threshold = Positive(parameters_.reset_threshold),
       .strength_cap = parameters_.strength_cap > 0 ? Positive(parameters_.strength_cap) : 0});
}

base::Tick FadingPolicy::prompt_ticks() const {
  return static_cast<base::Tick>(parameters_.prompt_ticks);
}

}  // namespace ebbinghaus::memory
