#include "server/rpc/event_conversion.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "server/rpc/request_conversion.h"

namespace ebbinghaus::rpc {
namespace {

// Room for the message's own tags, lengths and scalars beside the lists that are cut.
constexpr size_t kEnvelopeBytes = 256;
// Upper bounds of one list entry on the wire: a packed position is at most 5 bytes, a float 4.
constexpr size_t kAttentionEntryBytes = 5 + 4;
constexpr size_t kWeightEntryBytes = 5 + 3 * 4 + 5;
constexpr size_t kForgetEventBytes = 5 * 6 + 4;

void SetDuration(base::Duration d, google::protobuf::Duration* out) {
  auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(d).count();
  out->set_seconds(nanos / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

v1::FinishReason ToProto(base::FinishReason reason) {
  switch (reason) {
    case base::FinishReason::kEos: return v1::FINISH_REASON_EOS;
    case base::FinishReason::kStop: return v1::FINISH_REASON_STOP;
    case base::FinishReason::kLength: return v1::FINISH_REASON_LENGTH;
    case base::FinishReason::kDraining: return v1::FINISH_REASON_DRAINING;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

v1::PromptObservation ToProto(base::PromptObservation observation) {
  switch (observation) {
    case base::PromptObservation::kLast: return v1::PROMPT_OBSERVATION_LAST;
    case base::PromptObservation::kWindow: return v1::PROMPT_OBSERVATION_WINDOW;
    case base::PromptObservation::kAll: return v1::PROMPT_OBSERVATION_ALL;
  }
  return v1::PROMPT_OBSERVATION_UNSPECIFIED;
}

void FillSampling(const base::SamplingParameters& sampling, v1::SamplingParameters* out) {
  out->set_temperature(sampling.temperature);
  out->set_top_p(sampling.top_p);
  out->set_top_k(sampling.top_k);
  out->set_min_p(sampling.min_p);
  out->set_repetition_penalty(sampling.repetition_penalty);
  out->set_presence_penalty(sampling.presence_penalty);
  out->set_frequency_penalty(sampling.frequency_penalty);
  out->set_seed(sampling.seed);
  for (const auto& [id, bias] : sampling.logit_bias) (*out->mutable_logit_bias())[id] = bias;
}

// Only what the mode uses (memory-spec 5), so that the echo can be sent back as a request.
void FillMemory(base::GenerationMode mode, const base::MemoryParameters& memory, v1::MemoryParameters* out) {
  out->set_initial_strength(memory.initial_strength);
  out->set_time_step(memory.time_step);
  out->set_reset_threshold(memory.reset_threshold);
  out->set_strength_cap(memory.strength_cap);
  out->set_observe_interval(memory.observe_interval);
  out->set_prompt_ticks(memory.prompt_ticks);
  out->set_prompt_observation(ToProto(memory.prompt_observation));
  if (memory.prompt_observation == base::PromptObservation::kWindow) {
    out->set_prompt_window_tokens(memory.prompt_window_tokens);
  }
  if (mode == base::GenerationMode::kSoftDelete) {
    out->set_soft_floor(memory.soft_floor);
    out->set_soft_ceiling(memory.soft_ceiling);
    out->set_soft_layer_ratio(memory.soft_layer_ratio);
    out->set_soft_form(memory.soft_form == base::SoftForm::kLogBias ? v1::SOFT_FORM_LOG_BIAS
                                                                    : v1::SOFT_FORM_KV_SCALE);
    return;
  }
  out->set_forget_threshold(memory.forget_threshold);
  const bool consensus = memory.scope == base::ForgetScope::kConsensus;
  out->set_scope(consensus ? v1::FORGET_SCOPE_CONSENSUS : v1::FORGET_SCOPE_PER_LAYER);
  out->set_vote_ratio(memory.vote_ratio);
  out->set_vote_layers(memory.vote_layers == base::VoteLayers::kAll ? v1::VOTE_LAYERS_ALL
                                                                    : v1::VOTE_LAYERS_FIRST_HALF);
  out->set_sink_tokens(memory.sink_tokens);
  out->set_recent_tokens(memory.recent_tokens);
  out->set_min_live_tokens(memory.min_live_tokens);
  out->set_max_live_tokens(memory.max_live_tokens);
  for (const base::TokenRange& range : memory.pinned.ranges()) {
    v1::TokenRange* pinned = out->add_pinned();
    pinned->set_begin(range.begin);
    pinned->set_end(range.end);
  }
}

void FillStats(const base::MemoryStats& stats, v1::MemoryStats* out) {
  out->set_total_tokens(stats.total_tokens);
  out->set_live_tokens(stats.live_tokens);
  out->set_forgotten_tokens(stats.forgotten_tokens);
  out->set_forget_events(stats.forget_events);
  out->set_kv_bytes(stats.kv_bytes);
  out->set_kv_peak_bytes(stats.kv_peak_bytes);
  out->set_kv_baseline_bytes(stats.kv_baseline_bytes);
  for (size_t l = 0; l < stats.layers.size(); ++l) {
    const base::LayerMemory& from = stats.layers[l];
    v1::LayerMemory* to = out->add_layers();
    to->set_layer(static_cast<uint32_t>(l));
    to->set_live_tokens(from.live_tokens);
    to->set_mean_strength(from.mean_strength);
    to->set_max_strength(from.max_strength);
    to->set_mean_time(from.mean_time);
    to->set_max_time(from.max_time);
    to->set_mean_retention(from.mean_retention);
  }
}

void FillForgotten(const base::ForgetEvent& from, v1::ForgetEvent* to) {
  to->set_step(from.step);
  to->set_position(from.position);
  to->set_token_id(from.token_id);
  to->set_votes(from.votes);
  if (from.layer) to->set_layer(*from.layer);
}

void FillAttention(const base::AttentionRow& from, size_t begin, size_t end, v1::AttentionRow* to) {
  to->set_layer(from.layer);
  to->mutable_positions()->Add(from.positions.begin() + begin, from.positions.begin() + end);
  to->mutable_weights()->Add(from.weights.begin() + begin, from.weights.begin() + end);
}

void FillWeights(const base::TokenWeights& from, size_t begin, size_t end, v1::TokenWeights* to) {
  to->set_layer(from.layer);
  to->mutable_positions()->Add(from.positions.begin() + begin, from.positions.begin() + end);
  to->mutable_retention()->Add(from.retention.begin() + begin, from.retention.begin() + end);
  to->mutable_strength()->Add(from.strength.begin() + begin, from.strength.begin() + end);
  to->mutable_time()->Add(from.time.begin() + begin, from.time.begin() + end);
  to->mutable_forgotten_step()->Add(from.forgotten_step.begin() + begin, from.forgotten_step.begin() + end);
}

// Spreads lists over as many memory events of one step as the size limit asks for.
class MemoryEventWriter {
 public:
  MemoryEventWriter(uint32_t step, size_t max_message_bytes, std::vector<v1::GenerateResponse>* out)
      : step_(step), budget_(max_message_bytes - kEnvelopeBytes), out_(out) {}

  // Begins with an event of its own, for what is not cut.
  v1::MemoryEvent* Begin() { return EventWithRoomFor(budget_); }
  void CountBegun() { used_ = current_->ByteSizeLong(); }

  // Cuts [0, size) of one row, of at most entry_bytes each, into pieces that fit; `fill` is given the event and the
  // piece's ends.
  void AddPieces(size_t size, size_t entry_bytes,
                 const std::function<void(v1::MemoryEvent*, size_t, size_t)>& fill) {
    size_t begin = 0;
    do {
      v1::MemoryEvent* event = EventWithRoomFor(entry_bytes + kRowOverheadBytes);
      size_t fits = (budget_ - used_ - kRowOverheadBytes) / entry_bytes;
      size_t end = std::min(size, begin + fits);
      fill(event, begin, end);
      used_ += (end - begin) * entry_bytes + kRowOverheadBytes;
      begin = end;
    } while (begin < size);
  }

 private:
  static constexpr size_t kRowOverheadBytes = 48;  // the row's layer, and a tag and length for each of its lists

  v1::MemoryEvent* EventWithRoomFor(size_t bytes) {
    if (current_ == nullptr || used_ + bytes > budget_) {
      current_ = out_->emplace_back().mutable_memory();  // lives on the heap: growth of `out` does not move it
      current_->set_step(step_);
      used_ = 0;
    }
    return current_;
  }

  const uint32_t step_;
  const size_t budget_;
  std::vector<v1::GenerateResponse>* const out_;
  v1::MemoryEvent* current_ = nullptr;
  size_t used_ = 0;
};

}  // namespace

v1::Started ToProto(const scheduler::Started& started, size_t max_message_bytes) {
  v1::Started out;
  const base::SequenceSpec& spec = *started.spec;
  out.set_request_id(started.request_id);
  out.set_model(started.model);
  out.set_mode(ToProto(spec.mode));
  out.set_seed(spec.sampling.seed);
  out.set_prompt_tokens(static_cast<uint32_t>(spec.prompt.size()));
  out.set_cached_prompt_tokens(started.cached_prompt_tokens);
  FillSampling(spec.sampling, out.mutable_sampling());
  if (spec.mode != base::GenerationMode::kBaseline) FillMemory(spec.mode, spec.memory, out.mutable_memory());
  out.set_max_new_tokens(spec.max_new_tokens);
  out.set_min_new_tokens(spec.min_new_tokens);
  const size_t budget = max_message_bytes - kEnvelopeBytes;
  if (out.ByteSizeLong() > budget) out.mutable_sampling()->clear_logit_bias();
  if (out.ByteSizeLong() > budget) out.mutable_memory()->clear_pinned();
  return out;
}

v1::Finished ToProto(const scheduler::Finished& finished) {
  v1::Finished out;
  out.set_finish_reason(ToProto(finished.reason));
  out.set_matched_stop(finished.matched_stop);
  v1::Usage* usage = out.mutable_usage();
  usage->set_prompt_tokens(finished.prompt_tokens);
  usage->set_generated_tokens(finished.generated_tokens);
  SetDuration(finished.queue, usage->mutable_queue_duration());
  SetDuration(finished.prefill, usage->mutable_prefill_duration());
  SetDuration(finished.decode, usage->mutable_decode_duration());
  usage->set_tokens_per_second(finished.tokens_per_second);
  FillStats(finished.memory, out.mutable_memory_stats());
  return out;
}

EventConverter::EventConverter(size_t max_message_bytes) : max_message_bytes_(max_message_bytes) {}

std::vector<v1::GenerateResponse> EventConverter::Convert(const scheduler::Event& event) {
  std::vector<v1::GenerateResponse> out;
  if (const auto* token = std::get_if<scheduler::TokenEvent>(&event)) return ConvertToken(*token);
  if (const auto* memory = std::get_if<scheduler::MemoryEvent>(&event)) return ConvertMemory(*memory);
  if (const auto* started = std::get_if<scheduler::Started>(&event)) {
    *out.emplace_back().mutable_started() = ToProto(*started, max_message_bytes_);
  } else if (const auto* finished = std::get_if<scheduler::Finished>(&event)) {
    *out.emplace_back().mutable_finished() = ToProto(*finished);
  }
  return out;
}

std::vector<v1::GenerateResponse> EventConverter::ConvertToken(const scheduler::TokenEvent& event) {
  std::vector<v1::GenerateResponse> out(1);
  v1::Token* token = out[0].mutable_token();
  const uint32_t step = next_step_++;
  token->set_id(event.token.id);
  token->set_text(event.text);
  token->set_raw(event.raw);
  if (event.token.logprob) token->set_logprob(*event.token.logprob);
  for (const base::Candidate& from : event.token.candidates) {
    v1::Candidate* to = token->add_candidates();
    to->set_id(from.id);
    to->set_logprob(from.logprob);
  }
  token->set_live_tokens(event.token.live_tokens);

  size_t entries = 0;
  for (const base::AttentionRow& row : event.token.attention) entries += row.positions.size() + 6;  // and its frame
  const bool fits = out[0].ByteSizeLong() + entries * kAttentionEntryBytes + kEnvelopeBytes <= max_message_bytes_;
  MemoryEventWriter writer(step, max_message_bytes_, &out);
  for (const base::AttentionRow& row : event.token.attention) {
    if (fits) {
      FillAttention(row, 0, row.positions.size(), token->add_attention());
      continue;
    }
    writer.AddPieces(row.positions.size(), kAttentionEntryBytes, [&row](v1::MemoryEvent* e, size_t begin, size_t end) {
      FillAttention(row, begin, end, e->add_attention());
    });
  }
  return out;
}

std::vector<v1::GenerateResponse> EventConverter::ConvertMemory(const scheduler::MemoryEvent& event) {
  std::vector<v1::GenerateResponse> out;
  MemoryEventWriter writer(event.step, max_message_bytes_, &out);
  if (event.snapshot) {
    FillStats(*event.snapshot, writer.Begin()->mutable_snapshot());
    writer.CountBegun();
  }
  if (!event.forgotten.empty()) {
    writer.AddPieces(event.forgotten.size(), kForgetEventBytes,
                     [&event](v1::MemoryEvent* e, size_t begin, size_t end) {
                       for (size_t i = begin; i < end; ++i) FillForgotten(event.forgotten[i], e->add_forgotten());
                     });
  }
  for (const base::TokenWeights& row : event.token_weights) {
    writer.AddPieces(row.positions.size(), kWeightEntryBytes, [&row](v1::MemoryEvent* e, size_t begin, size_t end) {
      FillWeights(row, begin, end, e->add_token_weights());
    });
  }
  return out;
}

}  // namespace ebbinghaus::rpc
