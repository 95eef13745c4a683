// Forget policies driven by any parameters and any attention; what must hold is memory-spec section 8.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "server/base/check.h"
#include "server/memory/layer_fraction.h"
#include "server/memory/policy.h"

namespace ebbinghaus::memory {
namespace {

base::MemoryParameters ReadParameters(FuzzedDataProvider& in) {
  base::MemoryParameters p;
  const auto real = [&](double low, double high, double often) {
    const int kind = in.ConsumeIntegralInRange(0, 3);
    if (kind == 0) return low;
    if (kind == 1) return high;
    return kind == 2 ? often : in.ConsumeFloatingPointInRange(low, high);
  };
  p.initial_strength = real(1e-45, 1e6, 0.1);
  p.time_step = real(0, 1e3, 0.3);
  p.reset_threshold = real(1e-45, 1, 0.2);
  p.forget_threshold = real(1e-45, std::nextafter(1.0f, 0.0f), 0.1);
  p.vote_ratio = real(1e-45, 1, 0.5);
  p.vote_layers = in.PickValueInArray({base::VoteLayers::kAll, base::VoteLayers::kFirstHalf});
  p.scope = in.PickValueInArray({base::ForgetScope::kConsensus, base::ForgetScope::kPerLayer});
  p.soft_ceiling = real(1e-45, 1, 1);
  p.soft_floor = std::min(p.soft_ceiling, real(1e-45, 1, 0.8));
  p.soft_layer_ratio = real(0, 1, 0.5);
  p.soft_form = in.PickValueInArray({base::SoftForm::kLogBias, base::SoftForm::kKvScale});
  p.sink_tokens = in.ConsumeIntegralInRange<uint32_t>(0, 6);
  p.recent_tokens = in.ConsumeBool() ? in.ConsumeIntegralInRange<uint32_t>(0, 8) : in.ConsumeIntegral<uint32_t>();
  p.min_live_tokens = in.ConsumeIntegralInRange<uint32_t>(1, 12);
  p.observe_interval = in.ConsumeIntegralInRange<uint32_t>(1, 3);
  p.prompt_observation = in.PickValueInArray(
      {base::PromptObservation::kLast, base::PromptObservation::kWindow, base::PromptObservation::kAll});
  p.prompt_window_tokens = p.prompt_observation == base::PromptObservation::kWindow ? in.ConsumeIntegralInRange<uint32_t>(1, 9) : 0;
  if (p.prompt_observation != base::PromptObservation::kLast) p.prompt_ticks = in.ConsumeIntegralInRange<uint32_t>(0, 1000);
  if (in.ConsumeBool()) p.strength_cap = p.initial_strength * real(1, 10, 2);
  std::vector<base::TokenRange> pinned;
  for (int i = in.ConsumeIntegralInRange(0, 2); i > 0; --i) {
    const auto begin = in.ConsumeIntegralInRange<base::Position>(0, 40);
    pinned.push_back({begin, begin + in.ConsumeIntegralInRange<base::Position>(1, 4)});
  }
  p.pinned = base::TokenRanges(std::move(pinned));
  const uint64_t least = uint64_t{p.sink_tokens} + p.recent_tokens + 8 + 1;  // 8: the most that can be pinned
  if (in.ConsumeBool() && least < 100) {
    p.max_live_tokens = std::max(p.min_live_tokens, static_cast<uint32_t>(least) + in.ConsumeIntegralInRange<uint32_t>(0, 20));
  }
  return p;
}

struct Cell {
  float strength = 0;
  base::Tick last_reset = 0;
};

// The order of spec 2.5, with what must hold after every part of it.
class Run {
 public:
  Run(FuzzedDataProvider& in, base::GenerationMode mode)
      : in_(in),
        p_(ReadParameters(in)),
        layers_(in.ConsumeIntegralInRange<uint32_t>(1, 4)),
        sparse_(mode == base::GenerationMode::kSparseAttention),
        policy_(MakePolicy(mode, p_, layers_)),
        state_(policy_->NewState(layers_)),
        live_(layers_),
        forgotten_(layers_) {}

  void ReadPrompt() {
    prompt_ = in_.ConsumeIntegralInRange<base::Position>(1, 40);
    const base::Position first_observed = policy_->FirstObservedRow(prompt_);
    EBB_CHECK(first_observed < prompt_);  // the last row always is
    for (base::Position p = 0; p < prompt_; ++p) {
      now_ = static_cast<base::Tick>(p) * policy_->prompt_ticks();
      Append();
      if (p >= first_observed) Observe(1);
    }
    now_ = static_cast<base::Tick>(prompt_) * policy_->prompt_ticks();
  }

  void Step() {
    ++now_;
    ++step_;
    Forget();
    Append();
    if (const float gain = policy_->ObservationGain(step_); gain > 0) Observe(gain);
    CheckWeights();
  }

 private:
  bool Protected(base::Position position) const {
    const base::Position next = state_.next_position();
    if (position < p_.sink_tokens || next - position <= p_.recent_tokens) return true;
    const absl::Span<const base::TokenRange> pinned = p_.pinned.ranges();
    return std::any_of(pinned.begin(), pinned.end(),
                       [&](const base::TokenRange& range) { return position >= range.begin && position < range.end; });
  }

  static bool Same(const ForgetDecision& a, const ForgetDecision& b) {
    return std::equal(a.forgotten.begin(), a.forgotten.end(), b.forgotten.begin(), b.forgotten.end(),
                      [](const Forgotten& x, const Forgotten& y) {
                        return x.position == y.position && x.layer == y.layer && x.votes == y.votes && x.age_ticks == y.age_ticks;
                      });
  }

  void Forget() {
    const bool compare = in_.ConsumeIntegralInRange(0, 3) == 0;  // not always, since copies take long
    std::optional<RetentionState> without_cache;
    if (compare) {
      without_cache = state_;
      without_cache->forget_bounds() = {};
    }
    const ForgetDecision decision = policy_->Forget(state_, now_);
    if (compare) {  // what the policy remembers of earlier steps changes nothing, and neither does asking twice
      EBB_CHECK(Same(decision, policy_->Forget(*without_cache, now_)));
      EBB_CHECK(Same(decision, policy_->Forget(state_, now_)));
    }
    EBB_CHECK(sparse_ || decision.forgotten.empty());
    EBB_CHECK(decision.plans.empty() == decision.forgotten.empty());
    for (const Forgotten& f : decision.forgotten) CheckForgotten(f);
    for (uint32_t l = 0; l < decision.plans.size(); ++l) state_.Remove(l, decision.plans[l]);
    for (uint32_t l = 0; l < layers_; ++l) CheckLiveSet(l, !decision.forgotten.empty());
  }

  void CheckForgotten(const Forgotten& f) {
    EBB_CHECK(!Protected(f.position));  // I15
    EBB_CHECK(f.retention >= 0 && f.retention <= 1 && f.age_ticks >= 0 && f.votes <= layers_);
    EBB_CHECK(f.layer.has_value() == (p_.scope == base::ForgetScope::kPerLayer));
    for (uint32_t l = f.layer.value_or(0); l < f.layer.value_or(layers_ - 1) + 1; ++l) {
      EBB_CHECK(live_[l].erase(f.position) == 1);  // it was there, and is named once
      forgotten_[l].insert(f.position);
    }
  }

  void CheckLiveSet(uint32_t l, bool some_left) {
    const LayerState& layer = state_.layer(l);
    EBB_CHECK(layer.live() == live_[l].size());
    for (const base::Position position : layer.position) {  // I7: it shrinks by what was named, and by nothing else
      EBB_CHECK(live_[l].count(position) == 1 && forgotten_[l].count(position) == 0);
    }
    if (!sparse_) return;
    if (p_.max_live_tokens > 0) EBB_CHECK(layer.live() + 1 <= p_.max_live_tokens);  // spec 4.4
    if (some_left && !forgotten_[l].empty()) EBB_CHECK(layer.live() + 1 >= std::min<size_t>(p_.min_live_tokens, state_.next_position() + 1));
  }

  void Append() {
    for (auto& live : live_) live[state_.next_position()] = {0, now_};
    state_.Append(state_.next_position(), now_);
    for (uint32_t l = 0; l < layers_; ++l) {
      const LayerState& layer = state_.layer(l);
      live_[l][layer.position.back()].strength = layer.strength.back();
      EBB_CHECK(base::Retention(base::ElapsedTime(now_, layer.last_reset.back(), p_.time_step), layer.strength.back()) == 1);  // I1
    }
    EBB_CHECK(state_.max_live() <= policy_->MostLiveTokens(prompt_ == 0 ? state_.next_position() : prompt_, state_.next_position()));
  }

  // A row of attention, which adds up to 1; sometimes what only a broken kernel would hand in.
  std::vector<float> Row(size_t live, bool& sums_to_one) {
    std::vector<float> row(live);
    double sum = 0;
    for (float& mass : row) sum += mass = static_cast<float>(std::exp(in_.ConsumeIntegral<uint8_t>() / 16.0));
    for (float& mass : row) mass = static_cast<float>(mass / sum);
    sums_to_one = in_.ConsumeIntegralInRange(0, 15) > 0;
    if (!sums_to_one) row[in_.ConsumeIntegralInRange<size_t>(0, live - 1)] = in_.PickValueInArray({NAN, -1.0f, -0.0f, 2.0f, 1e30f, -INFINITY});
    return row;
  }

  void Observe(float gain) {
    for (uint32_t l = 0; l < layers_; ++l) {
      bool sums_to_one = false;
      const std::vector<float> row = Row(state_.layer(l).live(), sums_to_one);
      state_.Observe(l, row, gain, now_);
      CheckObserved(l, gain, sums_to_one);
    }
  }

  void CheckObserved(uint32_t l, float gain, bool sums_to_one) {
    const LayerState& layer = state_.layer(l);
    double gained = 0, most = 0;
    size_t resets = 0;
    for (base::Slot slot = 0; slot < layer.live(); ++slot) {
      Cell& before = live_[l].at(layer.position[slot]);
      EBB_CHECK(layer.strength[slot] >= before.strength && layer.last_reset[slot] >= before.last_reset);  // I2, hence I5
      EBB_CHECK(std::isfinite(layer.strength[slot]) && layer.last_reset[slot] <= now_);
      gained += static_cast<double>(layer.strength[slot]) - before.strength;
      most = std::max<double>(most, layer.strength[slot]);
      resets += layer.last_reset[slot] == now_ && before.last_reset != now_;
      before = {layer.strength[slot], layer.last_reset[slot]};
    }
    if (!sums_to_one) return;
    if (p_.strength_cap == 0) EBB_CHECK(std::abs(gained - gain) <= 1e-5 * gain + layer.live() * most * 2e-7);  // I3
    EBB_CHECK(resets <= 1.0001 / std::max(p_.reset_threshold, 1e-6));                                        // I4
  }

  // I14.
  void CheckWeights() const {
    for (uint32_t l = 0; l < layers_; ++l) {
      const base::AttentionWeighting weighting = policy_->Weighting(l);
      const bool weighs = !sparse_ && l < FloorFraction(p_.soft_layer_ratio, layers_);
      // A layer whose tokens all weigh 1 may be left alone, too.
      EBB_CHECK(weighs || weighting.form == base::AttentionWeighting::Form::kNone);
      const LayerState& layer = state_.layer(l);
      for (base::Slot slot = 0; weighs && slot < layer.live(); ++slot) {
        const double weight = weighting.Weight(now_, layer.last_reset[slot], layer.strength[slot]);
        EBB_CHECK(weight >= p_.soft_floor && weight <= p_.soft_ceiling);
      }
    }
  }

  FuzzedDataProvider& in_;
  const base::MemoryParameters p_;
  const uint32_t layers_;
  const bool sparse_;
  const std::unique_ptr<const MemoryPolicy> policy_;
  RetentionState state_;
  std::vector<std::map<base::Position, Cell>> live_;  // [L] as the events tell it
  std::vector<std::set<base::Position>> forgotten_;   // [L]
  base::Tick now_ = 0;
  base::Position prompt_ = 0;
  uint32_t step_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  Run run(in, in.ConsumeIntegralInRange(0, 3) > 0 ? base::GenerationMode::kSparseAttention : base::GenerationMode::kSoftDelete);
  run.ReadPrompt();
  for (int steps = 0; steps < 60 && in.remaining_bytes() > 0; ++steps) run.Step();
  return 0;
}

}  // namespace ebbinghaus::memory
