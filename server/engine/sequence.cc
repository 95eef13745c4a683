#include "server/engine/sequence.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "server/base/status_macros.h"
#include "server/engine/heaviest.h"

namespace ebbinghaus::engine {

using base::Position;
using base::Slot;
using base::Tick;

namespace {

bool WeighsAnything(const memory::MemoryPolicy& policy, uint32_t layers) {
  for (uint32_t l = 0; l < layers; ++l) {
    if (policy.Weighting(l).form != base::AttentionWeighting::Form::kNone) return true;
  }
  return false;
}

// Adds the time until it goes to a sum.
class Stopwatch {
 public:
  explicit Stopwatch(base::Duration* sum) : sum_(sum) {}
  ~Stopwatch() { *sum_ += std::chrono::duration_cast<base::Duration>(Clock::now() - began_); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  base::Duration* const sum_;
  const Clock::time_point began_ = Clock::now();
};

}  // namespace

uint64_t Sequence::StateBytes(const base::SequenceSpec& spec, const model::ModelConfig& config) {
  const auto policy = memory::MakePolicy(spec.mode, spec.memory, config.layers);
  const uint64_t layers = config.layers;
  const uint64_t prompt = spec.prompt.size(), total = prompt + std::max(spec.max_new_tokens, 1u) - 1;
  const uint64_t live = policy->MostLiveTokens(static_cast<uint32_t>(prompt), static_cast<uint32_t>(total));
  // Logits, and what penalties and sampling make of them.
  uint64_t bytes = uint64_t{24} * config.vocabulary + total * sizeof(base::TokenId);
  bytes += spec.sampling.logit_bias.size() * sizeof(spec.sampling.logit_bias[0]);
  if (policy->keeps_state()) {
    bytes += layers * live * (memory::RetentionState::kBytesPerToken + sizeof(double));
    bytes += layers * prompt * (sizeof(double) + sizeof(int32_t));  // PromptMass
  }
  if (spec.mode == base::GenerationMode::kSparseAttention && spec.return_token_weights) {
    bytes += layers * total * 2 * sizeof(ForgottenToken);  // a vector that grows may be half empty
  }
  if (spec.attention) {
    const uint64_t rows = spec.attention->layers.empty() ? layers : spec.attention->layers.size();
    const uint64_t kept = spec.attention->top_k == 0 ? live : std::min<uint64_t>(spec.attention->top_k, live);
    bytes += rows * kept * (sizeof(Position) + sizeof(float)) * 2;  // of the step, and waiting to be read
  }
  return bytes;
}

uint64_t Sequence::PagesNeeded(const base::SequenceSpec& spec, const model::ModelConfig& config,
                               const cache::PageShape& shape) {
  const auto policy = memory::MakePolicy(spec.mode, spec.memory, config.layers);
  const auto prompt = static_cast<uint32_t>(spec.prompt.size());
  // The last sampled token is never fed back.
  const uint32_t most = policy->MostLiveTokens(prompt, prompt + std::max(spec.max_new_tokens, 1u) - 1);
  return shape.PagesFor(most) * config.layers;
}

Sequence::Sequence(base::SequenceSpec spec, model::Decoder* decoder, cache::PagePool* pool, PrefixCache* prefixes)
    : spec_(std::move(spec)),
      decoder_(decoder),
      policy_(memory::MakePolicy(spec_.mode, spec_.memory, decoder->config().layers)),
      weighs_(WeighsAnything(*policy_, decoder->config().layers)),
      reserved_pages_(PagesNeeded(spec_, decoder->config(), pool->shape())),
      state_bytes_(StateBytes(spec_, decoder->config())),
      page_bytes_(pool->shape().page_bytes()),
      page_tokens_(pool->shape().page_tokens),
      prefixes_(prefixes),
      cache_(pool, decoder->config().layers, AccountOf(spec_.mode)),
      sampler_(spec_.sampling, spec_.prompt, decoder->kernels()),
      tokens_(spec_.prompt) {
  if (policy_->keeps_state()) state_.emplace(policy_->NewState(cache_.layers()));
  if (spec_.return_token_weights) forgotten_.resize(cache_.layers());
  if (prefixes_ == nullptr) return;
  BeginWith(prefixes_->Find({.owner = spec_.cache_owner,
                             .account = AccountOf(spec_.mode),
                             .prompt = spec_.prompt,
                             .first_observed_row = policy_->FirstObservedRow(static_cast<Position>(spec_.prompt.size())),
                             .strong = Strong()}));
}

void Sequence::BeginWith(Prefix prefix) {
  known_ = prefix.known_tokens;
  if (prefix.tokens == 0) return;
  for (uint32_t l = 0; l < cache_.layers(); ++l) cache_.layer(l).Attach(std::move(prefix.pages[l]), prefix.tokens);
  if (state_) AppendPromptState(prefix.tokens);
  prompt_mass_ = std::move(prefix.mass);
  cached_ = read_ = prefix.tokens;
}

// The next tokens of the prompt are born.
void Sequence::AppendPromptState(uint32_t tokens) {
  for (Position p = read_; p < read_ + tokens; ++p) state_->Append(p, static_cast<Tick>(p) * policy_->prompt_ticks());
}

model::Segment Sequence::Begin(uint32_t prompt_tokens, std::vector<base::ForgetEvent>& forgotten) {
  const auto prompt = static_cast<uint32_t>(spec_.prompt.size());
  pass_first_ = read_;
  sound_ = false;
  attention_.clear();
  report_time_ = {};
  if (!prompt_read()) {
    pass_rows_ = std::min(prompt_tokens, prompt - read_);
    pass_samples_ = read_ + pass_rows_ == prompt;
    if (state_) AppendPromptState(pass_rows_);
    KeepPromptSoFar();
  } else {
    ++clock_;
    ++step_;
    tokens_.push_back(last_token_);
    pass_rows_ = 1;
    pass_samples_ = true;
    if (state_) {
      forgotten = Forget();
      state_->Append(read_, clock_);
    }
    pristine_ = pristine_ && forgotten.empty() && !weighs_;
  }
  const bool observed = state_ || spec_.attention;
  return {.tokens = absl::MakeConstSpan(tokens_).subspan(read_, pass_rows_),
          .first = read_,
          .cache = &cache_,
          .memory = observed ? this : nullptr,
          .logit_rows = pass_samples_ ? 1 : 0,
          .logits = std::move(logits_)};
}

absl::StatusOr<std::optional<base::SampledToken>> Sequence::End(model::Segment segment) {
  logits_ = std::move(segment.logits);
  EBB_RETURN_IF_ERROR(segment.status);
  read_ += pass_rows_;
  kv_peak_bytes_ = std::max(kv_peak_bytes_, cache_.bytes());
  if (!pass_samples_) {
    sound_ = true;
    return std::nullopt;
  }
  std::vector<PromptMass> mass;
  if (reading_prompt()) {
    clock_ = static_cast<Tick>(spec_.prompt.size()) * policy_->prompt_ticks();
    mass = TakePromptMass();
  }
  EBB_ASSIGN_OR_RETURN(base::SampledToken token, Sample());
  sound_ = true;
  if (reading_prompt()) KeepPrompt(std::move(mass));
  return token;
}

absl::StatusOr<std::optional<base::SampledToken>> Sequence::Step(uint32_t prompt_tokens,
                                                                 std::vector<base::ForgetEvent>& forgotten) {
  model::Segment segment = Begin(prompt_tokens, forgotten);
  decoder_->Forward(absl::MakeSpan(&segment, 1));
  return End(std::move(segment));
}

bool Sequence::ObservesAllRows() const {
  return state_ && policy_->FirstObservedRow(static_cast<Position>(spec_.prompt.size())) == 0;
}

// A prompt that is sent again, or goes on otherwise, finds a prefix's mass only where it was taken before the mass of later
// rows was added: before the last pass, and where others went another way, so that the next one has something to begin with.
void Sequence::KeepPromptSoFar() {
  if (prefixes_ == nullptr || !ObservesAllRows() || read_ == cached_) return;
  const bool parting = read_ <= known_ && known_ < read_ + pass_rows_;
  if (!pass_samples_ && !parting) return;
  const absl::Span<const base::TokenId> prompt = spec_.prompt;
  prefixes_->InsertEnd(spec_.cache_owner, prompt.first(read_), cache_, Strong(), prompt_mass_);
}

// Before anything is forgotten.
void Sequence::KeepPrompt(std::vector<PromptMass> mass) {
  if (prefixes_ == nullptr) return;
  if (!ObservesAllRows()) return prefixes_->Insert(spec_.cache_owner, spec_.prompt, cache_);
  prefixes_->InsertEnd(spec_.cache_owner, spec_.prompt, cache_, Strong(), std::move(mass));
}

void Sequence::KeepPristinePages() {
  if (prefixes_ == nullptr || !pristine_ || !sound_) return;
  prefixes_->Insert(spec_.cache_owner, absl::MakeConstSpan(tokens_).first(read_), cache_);
}

std::vector<base::ForgetEvent> Sequence::Forget() {
  const memory::ForgetDecision decision = policy_->Forget(*state_, clock_);
  if (decision.plans.empty()) return {};
  std::vector<base::ForgetEvent> events;
  for (const memory::Forgotten& token : decision.forgotten) {
    events.push_back({.step = step_,
                      .position = token.position,
                      .token_id = tokens_[token.position],
                      .votes = token.votes,
                      .layer = token.layer,
                      .age_ticks = static_cast<uint32_t>(token.age_ticks),
                      .retention = static_cast<float>(token.retention)});
  }
  for (uint32_t l = 0; l < cache_.layers(); ++l) {
    if (decision.plans[l].empty()) continue;
    if (spec_.return_token_weights) RecordForgotten(l, decision.plans[l]);
    cache_.layer(l).Remove(decision.plans[l]);
    state_->Remove(l, decision.plans[l]);
  }
  forget_events_ += static_cast<uint32_t>(events.size());
  return events;
}

// What goes are the holes that the plan fills, and the slots beyond what stays that fill none.
void Sequence::RecordForgotten(uint32_t layer, const base::SlotRemovalPlan& plan) {
  const Stopwatch stopwatch(&report_time_);
  const memory::LayerState& state = state_->layer(layer);
  const auto record = [&](Slot slot) {
    const double time = base::ElapsedTime(clock_, state.last_reset[slot], spec_.memory.time_step);
    forgotten_[layer].push_back(
        {state.position[slot], step_, state.strength[slot], static_cast<float>(time)});
  };
  std::vector<bool> stays(plan.live_before - plan.live_after, false);
  for (const base::SlotMove& move : plan.moves) {
    record(move.to);
    stays[move.from - plan.live_after] = true;
  }
  for (Slot slot = plan.live_after; slot < plan.live_before; ++slot) {
    if (!stays[slot - plan.live_after]) record(slot);
  }
}

absl::StatusOr<base::SampledToken> Sequence::Sample() {
  base::SampledToken token;
  const bool may_end = generated_ >= spec_.min_new_tokens;
  EBB_ASSIGN_OR_RETURN(token.id, sampler_.Sample(logits_, read_,
                                                 may_end ? absl::Span<const base::TokenId>() : spec_.end_token_ids));
  if (spec_.return_logprobs) {
    const Stopwatch stopwatch(&report_time_);
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

model::SlotMemory Sequence::Weights(uint32_t layer) {
  if (!state_ || reading_prompt()) return {};  // the prompt is read at weight 1 (spec 2.2, 6.4)
  const memory::LayerState& state = state_->layer(layer);
  return {policy_->Weighting(layer), state.strength.data(), state.last_reset.data(), clock_};
}

bool Sequence::WantsAttention(uint32_t layer) const {
  if (!spec_.attention || !pass_samples_ || generated_ % spec_.attention->every_n_tokens != 0) return false;
  const auto& layers = spec_.attention->layers;
  return layers.empty() || std::find(layers.begin(), layers.end(), layer) != layers.end();
}

model::WantedMass Sequence::Wanted(uint32_t layer) {
  model::WantedMass wanted{.strong = Strong(), .last_row = WantsAttention(layer)};
  if (!state_) return wanted;
  if (!reading_prompt()) {
    wanted.last_row |= policy_->ObservationGain(step_) > 0;
    return wanted;
  }
  const int64_t first = policy_->FirstObservedRow(static_cast<Position>(spec_.prompt.size()));
  if (first < pass_first_ + pass_rows_) wanted.first_summed_row = std::max<int64_t>(first - pass_first_, 0);
  return wanted;
}

void Sequence::ObservedRows(uint32_t layer, absl::Span<const double> mass_sum, absl::Span<const int32_t> last_strong_row) {
  prompt_mass_.resize(cache_.layers());
  PromptMass& mass = prompt_mass_[layer];
  mass.sum.resize(mass_sum.size(), 0.0);
  mass.last_strong_row.resize(mass_sum.size(), -1);
  for (size_t i = 0; i < mass_sum.size(); ++i) {  // slots are positions while the prompt is read
    mass.sum[i] += mass_sum[i];
    if (last_strong_row[i] >= 0) mass.last_strong_row[i] = static_cast<int32_t>(pass_first_) + last_strong_row[i];
  }
}

std::vector<PromptMass> Sequence::TakePromptMass() {
  std::vector<float> sum;
  std::vector<Tick> last_reset;
  for (uint32_t l = 0; l < prompt_mass_.size(); ++l) {
    sum.assign(prompt_mass_[l].sum.begin(), prompt_mass_[l].sum.end());
    last_reset.clear();
    for (const int32_t row : prompt_mass_[l].last_strong_row) last_reset.push_back(row < 0 ? -1 : row * policy_->prompt_ticks());
    state_->ObserveRows(l, sum, last_reset);
  }
  return std::exchange(prompt_mass_, {});
}

void Sequence::ObservedLastRow(uint32_t layer, absl::Span<const float> mass) {
  if (state_ && !reading_prompt()) {
    const float gain = policy_->ObservationGain(step_);
    if (gain > 0) state_->Observe(layer, mass, gain, clock_);
  }
  if (WantsAttention(layer)) attention_.push_back(HeaviestPositions(layer, mass));
}

base::AttentionRow Sequence::HeaviestPositions(uint32_t layer, absl::Span<const float> mass) {
  const Stopwatch stopwatch(&report_time_);
  const absl::Span<const Position> positions =
      state_ ? absl::MakeConstSpan(state_->layer(layer).position) : absl::Span<const Position>();
  return Heaviest(layer, mass, positions, spec_.attention->top_k);
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

base::TokenWeights Sequence::TokenWeights(uint32_t layer, Position begin, Position end) const {
  base::TokenWeights weights;
  weights.layer = layer;
  end = std::min(end, read_);
  if (!state_ || begin >= end) return weights;
  weights.positions.resize(end - begin);
  std::iota(weights.positions.begin(), weights.positions.end(), begin);
  for (auto* values : {&weights.retention, &weights.strength, &weights.time}) values->resize(end - begin);
  weights.forgotten_step.resize(end - begin);
  const memory::LayerState& state = state_->layer(layer);
  for (Slot slot = 0; slot < state.live(); ++slot) {
    const Position p = state.position[slot];
    if (p < begin || p >= end) continue;
    const double time = base::ElapsedTime(clock_, state.last_reset[slot], spec_.memory.time_step);
    weights.strength[p - begin] = state.strength[slot];
    weights.time[p - begin] = static_cast<float>(time);
    weights.retention[p - begin] = static_cast<float>(base::Retention(time, state.strength[slot]));
  }
  for (const ForgottenToken& gone : forgotten_[layer]) {
    if (gone.position < begin || gone.position >= end) continue;
    weights.strength[gone.position - begin] = gone.strength;
    weights.time[gone.position - begin] = gone.time;
    weights.forgotten_step[gone.position - begin] = gone.step;
  }
  return weights;
}

}  // namespace ebbinghaus::engine
