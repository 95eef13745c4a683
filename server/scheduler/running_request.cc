#include "server/scheduler/running_request.h"

#include <algorithm>
#include <utility>

namespace ebbinghaus::scheduler {

using base::FinishReason;

namespace {

constexpr base::Position kWeightsPerEvent = 8192;

}  // namespace

RunningRequest::RunningRequest(std::unique_ptr<QueuedRequest> queued, base::SequenceId sequence,
                               RunningContext context, uint64_t step_number, base::TimePoint now)
    : queued_(std::move(queued)),
      sequence_(sequence),
      context_(context),
      output_(context.text->tokenizer, queued_->request.stop, spec().min_new_tokens, spec().prompt),
      started_(now),
      cached_(context.engine->cached_prompt_tokens(sequence)),
      read_(cached_),
      last_read_step_(step_number),
      live_(cached_) {
  context_.metrics->ObserveQueueTime(now - queued_->queued);
  context_.metrics->AddCachedPromptTokens(mode(), cached_);
  mailbox()->Push(Started{request_id(), context_.engine->model().name, cached_, queued_->request.spec});
}

SequenceView RunningRequest::View(base::TimePoint now) {
  const bool paused = mailbox()->full();
  if (paused && !pauses_.since()) context_.metrics->CountBackpressure(metrics::Backpressure::kPaused);
  pauses_.Set(paused, now);
  return {sequence_, static_cast<uint32_t>(spec().prompt.size()) - read_, last_read_step_, paused};
}

absl::StatusOr<std::optional<FinishReason>> RunningRequest::OnStep(const base::StepItem& item,
                                                                   base::StepOutcome outcome, uint64_t step_number,
                                                                   bool last_step, base::TimePoint now) {
  if (!prompt_read()) {
    const uint32_t unread = static_cast<uint32_t>(spec().prompt.size()) - read_;
    const uint32_t tokens = std::min(item.prompt_tokens, unread);
    read_ += tokens;
    live_ = read_;
    last_read_step_ = step_number;
    context_.metrics->AddPromptTokens(mode(), tokens);
  }
  if (outcome.token.has_value() != prompt_read()) {
    return absl::InternalError("the engine gave a token too many or too few");
  }
  CountForgotten(outcome.forgotten);
  if (queued_->request.return_forget_events && !outcome.forgotten.empty()) {
    mailbox()->Push(MemoryEvent{generated_, std::nullopt, std::move(outcome.forgotten), {}});
  }
  if (!outcome.token) return std::nullopt;
  return OnToken(*std::move(outcome.token), last_step, now);
}

std::optional<FinishReason> RunningRequest::OnToken(base::SampledToken token, bool last_step, base::TimePoint now) {
  CountToken(token, now);
  TokenEvent event;
  if (token.id < context_.text->tokenizer->size()) event.raw = context_.text->tokenizer->Piece(token.id);
  std::optional<FinishReason> end = EndAt(token.id, last_step);
  if (end != FinishReason::kEos) event.text = output_.Add(token.id);
  if (output_.matched_stop() && !end) end = FinishReason::kStop;
  if (end) {
    event.text += output_.Finish();
    if (output_.matched_stop()) {
      end = FinishReason::kStop;
      matched_stop_ = *output_.matched_stop();
    }
  }
  event.token = std::move(token);
  if (context_.keep_answer) answer_ += event.text;
  mailbox()->Push(std::move(event));
  const uint32_t every = queued_->request.memory_every_n_tokens;
  if (every > 0 && generated_ % every == 0) {
    mailbox()->Push(MemoryEvent{generated_ - 1, context_.engine->Stats(sequence_), {}, {}});
  }
  return end;
}

// Whether the token itself, or its number, ends the generation. Stop strings are another matter.
std::optional<FinishReason> RunningRequest::EndAt(base::TokenId id, bool last_step) const {
  const std::vector<base::TokenId>& eos = queued_->request.eos_token_ids;
  const std::vector<base::TokenId>& ends = spec().end_token_ids;  // sorted
  if (std::find(eos.begin(), eos.end(), id) != eos.end()) return FinishReason::kEos;
  if (std::binary_search(ends.begin(), ends.end(), id)) return FinishReason::kStop;
  if (generated_ >= spec().max_new_tokens) return FinishReason::kLength;
  if (last_step) return FinishReason::kDraining;
  return std::nullopt;
}

void RunningRequest::CountToken(const base::SampledToken& token, base::TimePoint now) {
  if (generated_ == 0) {
    first_token_ = now;
    context_.metrics->ObserveTimeToFirstToken(mode(), now - queued_->request.arrival);
  } else {
    context_.metrics->ObserveInterTokenLatency(mode(), now - last_token_);
  }
  last_token_ = now;
  ++generated_;
  pauses_.EarnToken();
  live_ = token.live_tokens;
  context_.metrics->AddGeneratedTokens(mode(), 1);
  // The last sampled token is not in the cache yet.
  const uint32_t total = read_ + generated_ - 1;
  if (total > live_ && total - live_ > forgotten_) {
    context_.metrics->AddForgottenTokens(mode(), total - live_ - forgotten_);
    forgotten_ = total - live_;
  }
}

void RunningRequest::CountForgotten(const std::vector<base::ForgetEvent>& forgotten) {
  for (const base::ForgetEvent& event : forgotten) context_.metrics->ObserveAgeAtForgetting(event.age_ticks);
}

base::MemoryStats RunningRequest::StatsAtEnd() const {
  if (prompt_read()) return context_.engine->Stats(sequence_);
  base::MemoryStats stats;  // ended while its prompt was being read
  stats.total_tokens = stats.live_tokens = read_;
  stats.kv_bytes = stats.kv_peak_bytes = stats.kv_baseline_bytes = context_.engine->kv_used_bytes(sequence_);
  return stats;
}

Finished RunningRequest::Finish(FinishReason reason) {
  Finished finished;
  finished.reason = reason;
  finished.matched_stop = matched_stop_;
  finished.prompt_tokens = static_cast<uint32_t>(spec().prompt.size());
  finished.generated_tokens = generated_;
  finished.queue = started_ - queued_->queued;
  finished.prefill = generated_ > 0 ? first_token_ - started_ : base::Duration{};
  finished.decode = DecodeDuration();
  finished.tokens_per_second = TokensPerSecond();
  finished.memory = StatsAtEnd();
  if (mode() != base::GenerationMode::kBaseline) {
    for (const base::LayerMemory& layer : finished.memory.layers) {
      context_.metrics->ObserveRetention(mode(), layer.mean_retention);
    }
  }
  return finished;
}

bool RunningRequest::wants_reports() const {
  return queued_->request.memory_every_n_tokens > 0 || spec().attention || spec().return_logprobs ||
         spec().return_token_weights;
}

bool RunningRequest::wants_weights() const {
  return spec().return_token_weights && prompt_read() && mode() != base::GenerationMode::kBaseline;
}

bool RunningRequest::TellWeights(bool even_if_full) {
  if (told_weights() || (mailbox()->full() && !even_if_full)) return false;
  const base::Position positions = read_ + generated_ - 1;  // the last sampled token is in no cache
  const base::Position end = std::min(positions, told_positions_ + kWeightsPerEvent);
  MemoryEvent event;
  event.step = generated_ - 1;
  event.token_weights.push_back(context_.engine->Weights(sequence_, told_layers_, told_positions_, end));
  mailbox()->Push(std::move(event));
  told_positions_ = end;
  if (end == positions) {
    ++told_layers_;
    told_positions_ = 0;
  }
  return true;
}

base::Duration RunningRequest::DecodeDuration() const {
  return generated_ > 0 ? last_token_ - first_token_ : base::Duration{};
}

double RunningRequest::TokensPerSecond() const {
  const double seconds = base::Seconds(DecodeDuration());
  return generated_ > 1 && seconds > 0 ? (generated_ - 1) / seconds : 0;
}

RequestSummary RunningRequest::Summary() const {
  RequestSummary summary = SummaryOf(queued_->request);
  summary.cached_prompt_tokens = cached_;
  summary.generated_tokens = generated_;
  summary.live_tokens = live_;
  summary.forgotten_tokens = forgotten_;
  summary.queue = started_ - queued_->queued;
  if (generated_ > 0) {
    summary.prefill = first_token_ - started_;
    summary.first_token = first_token_ - queued_->request.arrival;
    summary.decode = DecodeDuration();
  }
  summary.tokens_per_second = TokensPerSecond();
  summary.answer = answer_;
  return summary;
}

}  // namespace ebbinghaus::scheduler
