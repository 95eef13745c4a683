#include "server/engine/sequence.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "server/base/status_macros.h"

namespace ebbinghaus::engine {

using base::Position;
using base::Slot;
using base::Tick;

uint64_t Sequence::PagesNeeded(const base::SequenceSpec& spec, const model::ModelConfig& config,
                               const cache::PageShape& shape) {
  const auto policy = memory::MakePolicy(spec.mode, spec.memory, config.layers);
  const auto prompt = static_cast<uint32_t>(spec.prompt.size());
  // The last sampled token is never fed back.
  const uint32_t most = policy->MostLiveTokens(prompt, prompt + std::max(spec.max_new_tokens, 1u) - 1);
  return shape.PagesFor(most) * config.layers;
}

Sequence::Sequence(base::SequenceSpec spec, const model::Decoder* decoder, cache::PagePool* pool)
    : spec_(std::move(spec)),
      decoder_(decoder),
      policy_(memory::MakePolicy(spec_.mode, spec_.memory, decoder->config().layers)),
      reserved_pages_(PagesNeeded(spec_, decoder->config(), pool->shape())),
      page_bytes_(pool->shape().page_bytes()),
      page_tokens_(pool->shape().page_tokens),
      cache_(pool, decoder->config().layers),
      sampler_(spec_.sampling, spec_.prompt),
      tokens_(spec_.prompt) {
  if (policy_->keeps_state()) state_.emplace(policy_->NewState(cache_.layers()));
  if (spec_.return_token_weights) forgotten_.resize(cache_.layers());
}

absl::StatusOr<std::optional<base::SampledToken>> Sequence::ReadPrompt(uint32_t count) {
  const uint32_t prompt = static_cast<uint32_t>(spec_.prompt.size());
  count = std::min(count, prompt - read_);
  pass_samples_ = read_ + count == prompt;
  if (state_) {
    for (uint32_t i = 0; i < count; ++i) {
      const Position position = read_ + i;
      state_->Append(position, static_cast<Tick>(position) * policy_->prompt_ticks());
    }
  }
  EBB_RETURN_IF_ERROR(Pass(absl::MakeConstSpan(tokens_).subspan(read_, count)));
  if (!pass_samples_) return std::nullopt;
  clock_ = static_cast<Tick>(prompt) * policy_->prompt_ticks();
  EBB_ASSIGN_OR_RETURN(base::SampledToken token, Sample());
  return token;
}

absl::StatusOr<base::SampledToken> Sequence::Decode(std::vector<base::ForgetEvent>& forgotten) {
  ++clock_;
  ++step_;
  tokens_.push_back(last_token_);
  pass_samples_ = true;
  if (state_) {
    forgotten = Forget();
    state_->Append(read_, clock_);
  }
  EBB_RETURN_IF_ERROR(Pass(absl::MakeConstSpan(&last_token_, 1)));
  return Sample();
}

std::vector<base::ForgetEvent> Sequence::Forget() {
  const memory::ForgetDecision decision = policy_->Forget(*state_, clock_);
  if (decision.plans.empty()) return {};
  std::vector<base::ForgetEvent> events;
  std::vector<std::vector<Position>> by_layer(spec_.return_token_weights ? cache_.layers() : 0);
  for (const memory::Forgotten& token : decision.forgotten) {
    events.push_back({.step = step_,
                      .position = token.position,
                      .token_id = tokens_[token.position],
                      .votes = token.votes,
                      .layer = token.layer,
                      .age_ticks = static_cast<uint32_t>(token.age_ticks),
                      .retention = static_cast<float>(token.retention)});
    for (uint32_t l = 0; l < by_layer.size(); ++l) {
      if (!token.layer || *token.layer == l) by_layer[l].push_back(token.position);
    }
  }
  for (uint32_t l = 0; l < by_layer.size(); ++l) RecordForgotten(l, by_layer[l]);  // positions rise within a layer
  for (uint32_t l = 0; l < cache_.layers(); ++l) {
    if (decision.plans[l].empty()) continue;
    cache_.layer(l).Remove(decision.plans[l]);
    state_->Remove(l, decision.plans[l]);
  }
  forget_events_ += static_cast<uint32_t>(events.size());
  return events;
}

void Sequence::RecordForgotten(uint32_t layer, const std::vector<Position>& positions) {
  const memory::LayerState& state = state_->layer(layer);
  if (positions.empty()) return;
  for (Slot slot = 0; slot < state.live(); ++slot) {
    if (!std::binary_search(positions.begin(), positions.end(), state.position[slot])) continue;
    const double time = base::ElapsedTime(clock_, state.last_reset[slot], spec_.memory.time_step);
    forgotten_[layer][state.position[slot]] = {step_, state.strength[slot], static_cast<float>(time)};
  }
}

absl::Status Sequence::Pass(absl::Span<const base::TokenId> tokens) {
  pass_first_ = read_;
  pass_rows_ = static_cast<uint32_t>(tokens.size());
  attention_.clear();
  const bool observed = state_ || spec_.attention;
  EBB_ASSIGN_OR_RETURN(const at::Tensor logits, decoder_->Forward(tokens, read_, cache_, observed ? this : nullptr));
  if (pass_samples_) logits_.assign(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel());
  read_ += pass_rows_;
  kv_peak_bytes_ = std::max(kv_peak_bytes_, cache_.bytes());
  return absl::OkStatus();
}

absl::StatusOr<base::SampledToken> Sequence::Sample() {
  base::SampledToken token;
  const bool may_end = generated_ >= spec_.min_new_tokens;
  std::vector<float> scratch = logits_;
  EBB_ASSIGN_OR_RETURN(token.id, sampler_.Sample(absl::MakeSpan(scratch), read_,
                                                 may_end ? absl::Span<const base::TokenId>() : spec_.end_token_ids));
  if (spec_.return_logprobs) {
    const LogProbabilities logprobs(logits_);
    token.logprob = logprobs[token.id];
    token.candidates = logprobs.Top(spec_.top_logprobs);
  }
  token.attention = std::move(attention_);
  token.live_tokens = cache_.max_live();
  last_token_ = token.id;
  ++generated_;
  return token;
}

model::SlotWeights Sequence::Weights(uint32_t layer, uint32_t live) {
  const base::AttentionWeighting weighting = policy_->Weighting(layer);
  // The prompt is read at weight 1 (spec 2.2, 6.4).
  if (step_ == 0 || weighting.form == base::AttentionWeighting::Form::kNone) return {};
  const memory::LayerState& state = state_->layer(layer);
  slot_weights_.resize(live);
  for (Slot slot = 0; slot < live; ++slot) {
    slot_weights_[slot] = static_cast<float>(weighting.Weight(clock_, state.last_reset[slot], state.strength[slot]));
  }
  return {weighting.form, slot_weights_};
}

bool Sequence::WantsAttention(uint32_t layer) const {
  if (!spec_.attention || !pass_samples_ || generated_ % spec_.attention->every_n_tokens != 0) return false;
  const auto& layers = spec_.attention->layers;
  return layers.empty() || std::find(layers.begin(), layers.end(), layer) != layers.end();
}

std::optional<int64_t> Sequence::FirstObservedRow(uint32_t layer) {
  int64_t first = pass_rows_;
  if (WantsAttention(layer)) first = pass_rows_ - 1;
  if (state_ && step_ == 0) {
    const int64_t observed = policy_->FirstObservedRow(static_cast<Position>(spec_.prompt.size()));
    first = std::min(first, std::max<int64_t>(observed - pass_first_, 0));
  } else if (state_ && policy_->ObservationGain(step_) > 0) {
    first = 0;
  }
  if (first >= pass_rows_) return std::nullopt;
  return first;
}

void Sequence::Observed(uint32_t layer, const at::Tensor& mass) {
  const int64_t live = mass.size(1), first = pass_rows_ - mass.size(0);
  const auto row = [&](int64_t r) {
    return absl::MakeConstSpan(mass.data_ptr<float>() + (r - first) * live, static_cast<size_t>(live));
  };
  if (state_ && step_ == 0) {
    const int64_t observed = policy_->FirstObservedRow(static_cast<Position>(spec_.prompt.size()));
    for (int64_t r = std::max<int64_t>(observed - pass_first_, first); r < pass_rows_; ++r) {
      // Slots are positions while the prompt is read; later tokens have mass 0 in this row.
      state_->Observe(layer, row(r).first(pass_first_ + r + 1), 1.0f,
                      static_cast<Tick>(pass_first_ + r) * policy_->prompt_ticks());
    }
  } else if (state_) {
    const float gain = policy_->ObservationGain(step_);
    if (gain > 0) state_->Observe(layer, row(0), gain, clock_);
  }
  if (WantsAttention(layer)) attention_.push_back(HeaviestPositions(layer, row(pass_rows_ - 1)));
}

base::AttentionRow Sequence::HeaviestPositions(uint32_t layer, absl::Span<const float> mass) const {
  const auto position = [&](Slot slot) { return state_ ? state_->layer(layer).position[slot] : slot; };
  std::vector<Slot> slots(mass.size());
  std::iota(slots.begin(), slots.end(), 0);
  const uint32_t top_k = spec_.attention->top_k;
  const size_t kept = top_k == 0 ? slots.size() : std::min<size_t>(top_k, slots.size());
  std::partial_sort(slots.begin(), slots.begin() + kept, slots.end(), [&](Slot a, Slot b) {
    return mass[a] > mass[b] || (mass[a] == mass[b] && position(a) < position(b));
  });
  base::AttentionRow row{.layer = layer, .positions = {}, .weights = {}};
  for (size_t i = 0; i < kept; ++i) {
    row.positions.push_back(position(slots[i]));
    row.weights.push_back(mass[slots[i]]);
  }
  return row;
}

base::LayerMemory Sequence::LayerStats(uint32_t layer) const {
  base::LayerMemory stats{.live_tokens = cache_.layer(layer).live()};
  if (!state_ || stats.live_tokens == 0) return stats;
  const memory::LayerState& state = state_->layer(layer);
  for (Slot slot = 0; slot < state.live(); ++slot) {
    const double strength = state.strength[slot];
    const double time = base::ElapsedTime(clock_, state.last_reset[slot], spec_.memory.time_step);
    stats.mean_strength += strength;
    stats.max_strength = std::max(stats.max_strength, strength);
    stats.mean_time += time;
    stats.max_time = std::max(stats.max_time, time);
    stats.mean_retention += base::Retention(time, strength);
  }
  stats.mean_strength /= state.live();
  stats.mean_time /= state.live();
  stats.mean_retention /= state.live();
  return stats;
}

base::MemoryStats Sequence::Stats() const {
  base::MemoryStats stats;
  stats.total_tokens = read_;
  stats.live_tokens = cache_.max_live();
  stats.forgotten_tokens = stats.total_tokens - stats.live_tokens;
  stats.forget_events = forget_events_;
  stats.kv_bytes = cache_.bytes();
  stats.kv_peak_bytes = kv_peak_bytes_;
  stats.kv_baseline_bytes = (read_ + page_tokens_ - 1) / page_tokens_ * page_bytes_ * cache_.layers();
  for (uint32_t l = 0; l < cache_.layers(); ++l) stats.layers.push_back(LayerStats(l));
  return stats;
}

std::vector<base::TokenWeights> Sequence::Weights() const {
  std::vector<base::TokenWeights> all;
  if (!state_) return all;
  for (uint32_t l = 0; l < cache_.layers(); ++l) {
    base::TokenWeights weights;
    weights.layer = l;
    weights.positions.resize(read_);
    std::iota(weights.positions.begin(), weights.positions.end(), 0);
    for (auto* values : {&weights.retention, &weights.strength, &weights.time}) values->resize(read_);
    weights.forgotten_step.resize(read_);
    const memory::LayerState& state = state_->layer(l);
    for (Slot slot = 0; slot < state.live(); ++slot) {
      const Position p = state.position[slot];
      const double time = base::ElapsedTime(clock_, state.last_reset[slot], spec_.memory.time_step);
      weights.strength[p] = state.strength[slot];
      weights.time[p] = static_cast<float>(time);
      weights.retention[p] = static_cast<float>(base::Retention(time, state.strength[slot]));
    }
    for (const auto& [p, gone] : forgotten_[l]) {
      weights.strength[p] = gone.strength;
      weights.time[p] = gone.time;
      weights.forgotten_step[p] = gone.step;
    }
    all.push_back(std::move(weights));
  }
  return all;
}

}  // namespace ebbinghaus::engine
