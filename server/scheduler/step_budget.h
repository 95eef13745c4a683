// How much of the prompts a step may read, so that those who decode beside it hardly notice.
#pragma once

#include <cstdint>
#include <vector>

#include "server/base/clock.h"

namespace ebbinghaus::scheduler {

struct StepLimits {
  // Nobody decodes: a step takes about this long, so that newcomers and cancellations are seen soon.
  base::Duration alone = std::chrono::milliseconds(250);
  // Others decode: reading takes this part of the time that a token takes when all who run decode, or `unnoticed` where that
  // is more. (Measured by those who decode now, many readers would get little of a short step, and in pieces too small to be
  // read at speed.)
  double share = 1.0;
  base::Duration unnoticed = std::chrono::milliseconds(5);
  uint32_t least_tokens = 4, most_tokens = 512;  // least >= 1
};

// Learns from the steps what decoding and reading cost on this machine at this moment. Plain state, one thread.
class StepBudget {
 public:
  // `max_batch`: the most sequences in a step.
  StepBudget(const StepLimits& limits, uint32_t max_batch);

  // A step with `decoding` sequences that decoded, which read `prompt_tokens` of others, took this long.
  void Observe(uint32_t decoding, uint32_t prompt_tokens, base::Duration took);

  // For the next step, in which `decoding` of `running` sequences decode and the others read.
  uint32_t PromptTokens(uint32_t decoding, uint32_t running) const;

 private:
  double DecodeSeconds(uint32_t decoding) const;

  const StepLimits limits_;
  std::vector<double> decode_seconds_;  // [max_batch + 1] by number of sequences; 0 = never seen
  double prompt_token_seconds_ = 0;     // 0 = never seen
};

}  // namespace ebbinghaus::scheduler
