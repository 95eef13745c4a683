#include "server/memory/policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace ebbinghaus::memory {
namespace {

using base::MemoryParameters;
using base::Position;
using base::Slot;
using base::Tick;

uint32_t FloorFraction(double fraction, uint32_t count) { return static_cast<uint32_t>(std::floor(fraction * count + 1e-9)); }
uint32_t CeilFraction(double fraction, uint32_t count) { return static_cast<uint32_t>(std::ceil(fraction * count - 1e-9)); }

class BaselinePolicy final : public MemoryPolicy {
 public:
  bool keeps_state() const override { return false; }
  ForgetDecision Forget(const RetentionState&, Tick) const override { return {}; }
  base::AttentionWeighting Weighting(uint32_t) const override { return {}; }
  Position FirstObservedRow(Position prompt_tokens) const override { return prompt_tokens; }
  float ObservationGain(uint32_t) const override { return 0; }
  RetentionState NewState(uint32_t) const override { return RetentionState(0, {}); }
  uint32_t MostLiveTokens(uint32_t, uint32_t total_tokens) const override { return total_tokens; }
  Tick prompt_ticks() const override { return 0; }
};

// What both memory modes share: how state is born and strengthened (spec 2, 3).
class ObservingPolicy : public MemoryPolicy {
 public:
  explicit ObservingPolicy(MemoryParameters parameters) : parameters_(std::move(parameters)) {}

  bool keeps_state() const override { return true; }
  ForgetDecision Forget(const RetentionState&, Tick) const override { return {}; }
  base::AttentionWeighting Weighting(uint32_t) const override { return {}; }
  uint32_t MostLiveTokens(uint32_t, uint32_t total_tokens) const override { return total_tokens; }

  Position FirstObservedRow(Position prompt_tokens) const override {
    switch (parameters_.prompt_observation) {
      case base::PromptObservation::kAll:
        return 0;
      case base::PromptObservation::kWindow:
        return prompt_tokens - std::min(prompt_tokens, parameters_.prompt_window_tokens);
      case base::PromptObservation::kLast:
        break;
    }
    return prompt_tokens - std::min<Position>(prompt_tokens, 1);
  }

  float ObservationGain(uint32_t step) const override {
    const uint32_t interval = parameters_.observe_interval;
    return step % interval == 0 ? static_cast<float>(interval) : 0.0f;
  }

  RetentionState NewState(uint32_t layers) const override {
    return RetentionState(layers, {.initial_strength = static_cast<float>(parameters_.initial_strength),
                                   .reset_threshold = static_cast<float>(parameters_.reset_threshold),
                                   .strength_cap = static_cast<float>(parameters_.strength_cap)});
  }

  Tick prompt_ticks() const override { return static_cast<Tick>(parameters_.prompt_ticks); }

 protected:
  const MemoryParameters parameters_;
};

class SoftDeletePolicy final : public ObservingPolicy {
 public:
  SoftDeletePolicy(MemoryParameters parameters, uint32_t layers)
      : ObservingPolicy(std::move(parameters)), weighted_layers_(FloorFraction(parameters_.soft_layer_ratio, layers)) {}

  base::AttentionWeighting Weighting(uint32_t layer) const override {
    using Form = base::AttentionWeighting::Form;
    if (layer >= weighted_layers_) return {};
    return {.form = parameters_.soft_form == base::SoftForm::kLogBias ? Form::kLogBias : Form::kKvScale,
            .time_step = parameters_.time_step,
            .floor = parameters_.soft_floor,
            .ceiling = parameters_.soft_ceiling};
  }

 private:
  const uint32_t weighted_layers_;
};

class SparseAttentionPolicy final : public ObservingPolicy {
 public:
  SparseAttentionPolicy(MemoryParameters parameters, uint32_t layers)
      : ObservingPolicy(std::move(parameters)),
        layers_(layers),
        voting_layers_(parameters_.vote_layers == base::VoteLayers::kAll ? layers : (layers + 1) / 2),
        needed_votes_(std::max(1u, CeilFraction(parameters_.vote_ratio, voting_layers_))),
        log_threshold_(std::log(1.0 / parameters_.forget_threshold)) {}

  ForgetDecision Forget(const RetentionState& state, Tick now) const override {
    ForgetDecision decision;
    decision.plans.resize(layers_);
    if (parameters_.scope == base::ForgetScope::kPerLayer) {
      for (uint32_t l = 0; l < layers_; ++l) decision.plans[l] = ForgetIn(state, l, l + 1, 1, now, l, decision.forgotten);
    } else {
      const base::SlotRemovalPlan plan = ForgetIn(state, 0, voting_layers_, needed_votes_, now, std::nullopt, decision.forgotten);
      for (base::SlotRemovalPlan& each : decision.plans) each = plan;
    }
    if (decision.forgotten.empty()) decision.plans.clear();
    return decision;
  }

  uint32_t MostLiveTokens(uint32_t prompt_tokens, uint32_t total_tokens) const override {
    if (parameters_.max_live_tokens == 0) return total_tokens;
    return std::min(total_tokens, std::max(prompt_tokens, parameters_.max_live_tokens));
  }

 private:
  struct Candidate {
    double expiry;
    Position position;
    Slot slot;
    bool operator<(const Candidate& other) const {
      return expiry < other.expiry || (expiry == other.expiry && position < other.position);
    }
  };

  bool Votes(const LayerState& layer, Slot slot, Tick now) const {
    return base::ElapsedTime(now, layer.last_reset[slot], parameters_.time_step) > layer.strength[slot] * log_threshold_;
  }

  // e = a + S ln(1/theta) / dt in ticks; with time standing still, ordered by S (spec 4.4).
  double Expiry(const LayerState& layer, Slot slot) const {
    const double span = layer.strength[slot] * log_threshold_;
    return parameters_.time_step > 0 ? layer.last_reset[slot] + span / parameters_.time_step : span;
  }

  // The needed-th smallest expiry over the voting layers.
  double ConsensusExpiry(const RetentionState& state, uint32_t first, uint32_t last, uint32_t needed, Slot slot) const {
    std::vector<double> expiries;
    for (uint32_t l = first; l < last; ++l) expiries.push_back(Expiry(state.layer(l), slot));
    std::nth_element(expiries.begin(), expiries.begin() + (needed - 1), expiries.end());
    return expiries[needed - 1];
  }

  // The decision for the layers [first, last), which share one live set.
  base::SlotRemovalPlan ForgetIn(const RetentionState& state, uint32_t first, uint32_t last, uint32_t needed, Tick now,
                                 std::optional<uint32_t> layer, std::vector<Forgotten>& forgotten) const {
    const LayerState& any = state.layer(first);
    const Slot live = any.live();
    std::vector<Candidate> expired, open;
    const Position recent_from = RecentFrom(any);
    for (Slot slot = 0; slot < live; ++slot) {
      const Position position = any.position[slot];
      if (position < parameters_.sink_tokens || position >= recent_from || Pinned(position)) continue;
      uint32_t votes = 0;
      for (uint32_t l = first; l < last; ++l) votes += Votes(state.layer(l), slot, now);
      (votes >= needed ? expired : open).push_back({0, position, slot});
    }
    // The newborn counts as one that stays.
    const auto removable = [&](size_t removed, uint32_t keep) -> size_t {
      const size_t stay = live - removed + 1;
      return stay > keep ? stay - keep : 0;
    };
    size_t quota = std::min<size_t>(expired.size(), removable(0, parameters_.min_live_tokens));
    if (quota < expired.size()) {
      Rank(state, first, last, needed, expired);
      open.insert(open.end(), expired.begin() + quota, expired.end());
      expired.resize(quota);
    }
    if (parameters_.max_live_tokens > 0) {
      const size_t over = std::min(removable(expired.size(), parameters_.max_live_tokens), open.size());
      if (over > 0) {
        Rank(state, first, last, needed, open);
        expired.insert(expired.end(), open.begin(), open.begin() + over);
      }
    }
    return Plan(state, first, last, now, layer, expired, forgotten);
  }

  void Rank(const RetentionState& state, uint32_t first, uint32_t last, uint32_t needed, std::vector<Candidate>& candidates) const {
    for (Candidate& c : candidates) c.expiry = ConsensusExpiry(state, first, last, needed, c.slot);
    std::sort(candidates.begin(), candidates.end());
  }

  base::SlotRemovalPlan Plan(const RetentionState& state, uint32_t first, uint32_t last, Tick now, std::optional<uint32_t> layer,
                             std::vector<Candidate>& gone, std::vector<Forgotten>& forgotten) const {
    std::sort(gone.begin(), gone.end(), [](const Candidate& a, const Candidate& b) { return a.position < b.position; });
    std::vector<Slot> slots;
    for (const Candidate& c : gone) {
      slots.push_back(c.slot);
      Forgotten token{.position = c.position, .votes = 0, .layer = layer, .age_ticks = now - state.layer(first).born[c.slot], .retention = 0};
      for (uint32_t l = first; l < last; ++l) {
        const LayerState& each = state.layer(l);
        token.votes += Votes(each, c.slot, now);
        token.retention += base::Retention(base::ElapsedTime(now, each.last_reset[c.slot], parameters_.time_step), each.strength[c.slot]) / (last - first);
      }
      forgotten.push_back(token);
    }
    std::sort(slots.begin(), slots.end());
    return base::PlanRemoval(slots, state.layer(first).live());
  }

  // The lowest position of the last recent_tokens cached ones.
  Position RecentFrom(const LayerState& layer) const {
    constexpr Position kNone = std::numeric_limits<Position>::max();
    if (parameters_.recent_tokens == 0) return kNone;
    if (parameters_.recent_tokens >= layer.live()) return 0;
    std::vector<Position> positions = layer.position;
    auto nth = positions.end() - parameters_.recent_tokens;
    std::nth_element(positions.begin(), nth, positions.end());
    return *nth;
  }

  bool Pinned(Position position) const {
    return std::any_of(parameters_.pinned.begin(), parameters_.pinned.end(),
                       [&](const base::TokenRange& r) { return position >= r.begin && position < r.end; });
  }

  const uint32_t layers_, voting_layers_, needed_votes_;
  const double log_threshold_;
};

}  // namespace

std::unique_ptr<const MemoryPolicy> MakePolicy(base::GenerationMode mode, const MemoryParameters& parameters, uint32_t layers) {
  switch (mode) {
    case base::GenerationMode::kSoftDelete: return std::make_unique<SoftDeletePolicy>(parameters, layers);
    case base::GenerationMode::kSparseAttention: return std::make_unique<SparseAttentionPolicy>(parameters, layers);
    case base::GenerationMode::kBaseline: break;
  }
  return std::make_unique<BaselinePolicy>();
}

}  // namespace ebbinghaus::memory
