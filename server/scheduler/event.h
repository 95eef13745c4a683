// What a request's stream carries, in order: one Started, Tokens with Memory between them, one Finished; or a
// status that ends it early.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/engine.h"

namespace ebbinghaus::scheduler {

struct Started {
  std::string request_id;
  std::string model;
  uint32_t cached_prompt_tokens = 0;  // of the prompt, from the prefix cache
  std::shared_ptr<const base::SequenceSpec> spec;  // the effective parameters
};

struct TokenEvent {
  base::SampledToken token;
  std::string text;  // newly completed text, valid UTF-8, possibly empty; the last token's brings what was held back
  std::string raw;   // the token's own bytes, also where they are not part of the text
};

struct MemoryEvent {
  uint32_t step = 0;  // 0 = the prompt, i = the pass of the i-th fed-back token (memory-spec 2.2)
  std::optional<base::MemoryStats> snapshot;
  std::vector<base::ForgetEvent> forgotten;
  std::vector<base::TokenWeights> token_weights;
};

struct Finished {
  base::FinishReason reason = base::FinishReason::kLength;
  std::string matched_stop;  // with kStop: the stop string, empty for a stop token
  uint32_t prompt_tokens = 0, generated_tokens = 0;
  base::Duration queue{}, prefill{}, decode{};  // decode: first to last sampled token
  double tokens_per_second = 0;  // (generated - 1) / decode, or 0
  base::MemoryStats memory;
};

using Event = std::variant<Started, TokenEvent, MemoryEvent, Finished, absl::Status>;

// About what the event occupies while it waits to be read.
size_t SizeBytes(const Event& event);

}  // namespace ebbinghaus::scheduler
