// The one summary line that every request leaves in the log.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/engine.h"
#include "server/base/generation.h"
#include "server/scheduler/admission.h"
#include "server/scheduler/log.h"
#include "server/text/text_model.h"

namespace ebbinghaus::scheduler {

struct RequestSummary {
  std::string request_id;
  base::GenerationMode mode = base::GenerationMode::kBaseline;
  absl::Status status;                         // how the call ended
  std::optional<base::FinishReason> finished;  // set if it generated to an end
  uint32_t prompt_tokens = 0, cached_prompt_tokens = 0, generated_tokens = 0;
  uint32_t live_tokens = 0, forgotten_tokens = 0;
  base::Duration queue{}, prefill{}, decode{}, duration{};  // duration: from arrival to end
  std::optional<base::Duration> first_token;                // from arrival
  double tokens_per_second = 0;
  std::shared_ptr<const base::SequenceSpec> spec;  // for the prompt, where prompts are logged; null if refused
  std::string answer;                              // the same
};

// What is known of a request before it runs.
RequestSummary SummaryOf(const AdmittedRequest& request);

// The line's fields. Prompt and answer are left out unless `prompts`, which decodes them, is given.
LogFields ToLogFields(const RequestSummary& summary, const text::Tokenizer* prompts);

// Writes the line; as an error if the server is to blame.
void LogRequest(const RequestSummary& summary, const text::Tokenizer* prompts);

}  // namespace ebbinghaus::scheduler
