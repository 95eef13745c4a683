#include "server/scheduler/request_log.h"

namespace ebbinghaus::scheduler {

RequestSummary SummaryOf(const AdmittedRequest& request) {
  RequestSummary summary;
  summary.request_id = request.request_id;
  summary.mode = request.spec->mode;
  summary.prompt_tokens = static_cast<uint32_t>(request.spec->prompt.size());
  summary.spec = request.spec;
  return summary;
}

LogFields ToLogFields(const RequestSummary& s, const text::Tokenizer* prompts) {
  LogFields fields = {{"id", s.request_id}, {"mode", base::Name(s.mode)}, {"code", absl::StatusCodeToString(s.status.code())}};
  if (s.finished) fields.emplace_back("finish_reason", base::Name(*s.finished));
  fields.emplace_back("prompt_tokens", s.prompt_tokens);
  fields.emplace_back("cached_prompt_tokens", s.cached_prompt_tokens);
  fields.emplace_back("generated_tokens", s.generated_tokens);
  fields.emplace_back("live_tokens", s.live_tokens);
  fields.emplace_back("forgotten_tokens", s.forgotten_tokens);
  fields.emplace_back("queue_seconds", base::Seconds(s.queue));
  fields.emplace_back("prefill_seconds", base::Seconds(s.prefill));
  fields.emplace_back("decode_seconds", base::Seconds(s.decode));
  fields.emplace_back("duration_seconds", base::Seconds(s.duration));
  if (s.first_token) fields.emplace_back("time_to_first_token_seconds", base::Seconds(*s.first_token));
  fields.emplace_back("tokens_per_second", s.tokens_per_second);
  if (!s.status.ok()) fields.emplace_back("error", std::string(s.status.message()));
  if (prompts != nullptr && s.spec != nullptr) {
    fields.emplace_back("prompt", prompts->Decode(s.spec->prompt, /*skip_special=*/false));
    fields.emplace_back("answer", s.answer);
  }
  return fields;
}

void LogRequest(const RequestSummary& summary, const text::Tokenizer* prompts) {
  const bool ours = summary.status.code() == absl::StatusCode::kInternal;
  Log(ours ? LogLevel::kError : LogLevel::kInfo, "request", ToLogFields(summary, prompts));
}

}  // namespace ebbinghaus::scheduler
