#include "server/memory/sparse_attention_policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "server/base/check.h"
#include "server/memory/layer_fraction.h"

namespace ebbinghaus::memory {

using base::Position;
using base::Slot;
using base::Tick;

namespace {

struct Candidate {
  double expiry = 0;
  Position position = 0;
  Slot slot = 0;

  bool operator<(const Candidate& other) const {
    return expiry != other.expiry ? expiry < other.expiry : position < other.position;
  }
};

void KeepSmallest(size_t count, std::vector<Candidate>& candidates) {
  if (candidates.size() <= count) return;
  if (count > 0)
    std::nth_element(candidates.begin(), candidates.begin() + (count - 1), candidates.end());
  candidates.resize(count);
}

}  // namespace

// Expiry here is in time units, dt * e = dt * a + S * ln(1/theta): the spec's e in ticks in the
// same order, and still a number when time stands still (dt = 0), where it orders by S.
class SparseAttentionPolicy::LiveSet {
 public:
  LiveSet(const SparseAttentionPolicy& policy, const RetentionState& state, ExpiryIndex& bounds,
          Electorate electorate, Tick now)
      : policy_(policy),
        parameters_(policy.parameters()),
        state_(state),
        bounds_(bounds),
        electorate_(electorate),
        now_(now),
        positions_(state.layer(electorate.first).position),
        // The last recent_tokens cached tokens are the last ones ever appended: they cannot have
        // been forgotten.
        recent_from_(state.next_position() -
                     std::min(state.next_position(), parameters_.recent_tokens)),
        expiries_(electorate.last - electorate.first) {}

  // What leaves, by rising position. Expiry acts first, then the budget (spec 4.3, 4.4).
  std::vector<Candidate> Choose() {
    const uint64_t with_newborn = positions_.size() + uint64_t{1};
    const auto beyond = [&](uint64_t limit) {
      return with_newborn > limit ? with_newborn - limit : 0;
    };
    const uint64_t may_go = beyond(parameters_.min_live_tokens);
    const uint64_t must_go =
        parameters_.max_live_tokens > 0 ? beyond(parameters_.max_live_tokens) : 0;
    if (may_go == 0) return {};
    MeetNewborns();
    std::vector<Candidate> gone = Expired();
    KeepSmallest(may_go, gone);
    std::sort(gone.begin(), gone.end(), ByPosition);
    if (gone.size() < must_go) {
      for (const Candidate& c : NextToExpire(must_go - gone.size(), gone)) gone.push_back(c);
      std::sort(gone.begin(), gone.end(), ByPosition);
    }
    return gone;
  }

  // How many layers of the electorate want the token gone.
  uint32_t Votes(Slot slot) const {
    uint32_t votes = 0;
    for (uint32_t l = electorate_.first; l < electorate_.last; ++l) {
      const LayerState& layer = state_.layer(l);
      const double elapsed = base::ElapsedTime(now_, layer.last_reset[slot], parameters_.time_step);
      votes += elapsed > layer.strength[slot] * policy_.log_threshold_;
    }
    return votes;
  }

 private:
  static bool ByPosition(const Candidate& a, const Candidate& b) { return a.position < b.position; }

  // The needed-th smallest of the electorate's expiries: at any later time as many layers as needed
  // want it gone.
  double Expiry(Slot slot) {
    if (expiries_.size() == 1) return LayerExpiry(state_.layer(electorate_.first), slot);
    for (uint32_t l = electorate_.first; l < electorate_.last; ++l) {
      expiries_[l - electorate_.first] = LayerExpiry(state_.layer(l), slot);
    }
    const auto needed = expiries_.begin() + (electorate_.needed - 1);
    std::nth_element(expiries_.begin(), needed, expiries_.end());
    return *needed;
  }

  double LayerExpiry(const LayerState& layer, Slot slot) const {
    return parameters_.time_step * layer.last_reset[slot] +
           layer.strength[slot] * policy_.log_threshold_;
  }

  void MeetNewborns() {
    for (Slot slot = bounds_.size(); slot < positions_.size(); ++slot) {
      bounds_.Append(policy_.AlwaysKept(positions_[slot]) ? ExpiryIndex::kNever : Expiry(slot));
    }
  }

  // Refreshes what is due up to `horizon`, handing the unprotected to `visit`. Those in the recent
  // window keep their bound, so that they are found again when they leave it.
  template <typename Visit>
  void Search(const double& horizon, Visit visit) {
    bounds_.Search(horizon, [&](Slot slot) {
      const Position position = positions_[slot];
      if (bounds_.bound(slot) == ExpiryIndex::kUnknown && policy_.AlwaysKept(position)) {
        return ExpiryIndex::kNever;
      }
      if (position >= recent_from_) return bounds_.bound(slot);
      const double expiry = Expiry(slot);
      visit(Candidate{expiry, position, slot});
      return expiry;
    });
  }

  std::vector<Candidate> Expired() {
    // Votes decide; the bounds only choose whom to ask, so they err by more than rounding can.
    const double horizon = parameters_.time_step * now_ * (1 + 1e-12);
    std::vector<Candidate> expired;
    Search(horizon, [&](const Candidate& candidate) {
      if (candidate.expiry <= horizon && Votes(candidate.slot) >= electorate_.needed)
        expired.push_back(candidate);
    });
    return expired;
  }

  // The `count` unprotected tokens that expire first, `taken` (by rising position) left out; fewer
  // when there are not so many.
  std::vector<Candidate> NextToExpire(size_t count, const std::vector<Candidate>& taken) {
    Candidate worst{.expiry = std::numeric_limits<double>::max()};  // of the best so far
    std::vector<Candidate> best;
    Search(worst.expiry, [&](const Candidate& candidate) {
      if (worst < candidate) return;
      if (std::binary_search(taken.begin(), taken.end(), candidate, ByPosition)) return;
      best.push_back(candidate);
      if (best.size() < 2 * count) return;
      KeepSmallest(count, best);
      worst = best[count - 1];  // where nth_element left it
    });
    KeepSmallest(count, best);
    return best;
  }

  const SparseAttentionPolicy& policy_;
  const base::MemoryParameters& parameters_;
  const RetentionState& state_;
  ExpiryIndex& bounds_;
  const Electorate electorate_;
  const Tick now_;
  const std::vector<Position>& positions_;
  const Position recent_from_;
  std::vector<double> expiries_;  // scratch, one per voting layer
};

SparseAttentionPolicy::SparseAttentionPolicy(const base::MemoryParameters& parameters,
                                             uint32_t layers)
    : FadingPolicy(parameters),
      layers_(layers),
      consensus_([&] {
        const uint32_t voters =
            parameters.vote_layers == base::VoteLayers::kAll ? layers : FirstHalf(layers);
        return Electorate{0, voters, std::max(1u, CeilFraction(parameters.vote_ratio, voters))};
      }()),
      log_threshold_(-std::log(parameters.forget_threshold)) {}  // 1 / theta may overflow

bool SparseAttentionPolicy::AlwaysKept(Position position) const {
  return position < parameters().sink_tokens || parameters().pinned.Contains(position);
}

std::vector<ExpiryIndex>& SparseAttentionPolicy::Bounds(const RetentionState& state) const {
  RetentionState::ForgetBounds& bounds = state.forget_bounds();
  const size_t sets = parameters().scope == base::ForgetScope::kPerLayer ? layers_ : 1;
  if (bounds.sets.size() != sets || !(bounds.parameters == parameters())) {
    bounds = {.parameters = parameters(), .sets = std::vector<ExpiryIndex>(sets)};
  }
  return bounds.sets;
}

ForgetDecision SparseAttentionPolicy::Forget(const RetentionState& state, Tick now) const {
  EBB_CHECK(state.layers() == layers_);
  ForgetDecision decision;
  std::vector<ExpiryIndex>& bounds = Bounds(state);
  if (parameters().scope == base::ForgetScope::kPerLayer) {
    for (uint32_t l = 0; l < layers_; ++l) ForgetInLayer(state, l, bounds[l], now, decision);
  } else {
    ForgetInAll(state, bounds[0], now, decision);
  }
  return decision;
}

void SparseAttentionPolicy::ForgetInLayer(const RetentionState& state, uint32_t layer,
                                          ExpiryIndex& bounds, Tick now,
                                          ForgetDecision& decision) const {
  LiveSet live_set(*this, state, bounds, {layer, layer + 1, 1}, now);
  const std::vector<Candidate> gone = live_set.Choose();
  if (gone.empty()) return;
  if (decision.plans.empty()) {
    for (uint32_t l = 0; l < layers_; ++l)
      decision.plans.push_back(base::PlanRemoval({}, state.layer(l).live()));
  }
  const LayerState& tokens = state.layer(layer);
  std::vector<Slot> slots;
  for (const Candidate& c : gone) {
    slots.push_back(c.slot);
    const double elapsed =
        base::ElapsedTime(now, tokens.last_reset[c.slot], parameters().time_step);
    decision.forgotten.push_back({.position = c.position,
                                  .votes = live_set.Votes(c.slot),
                                  .layer = layer,
                                  .age_ticks = now - tokens.born[c.slot],
                                  .retention = base::Retention(elapsed, tokens.strength[c.slot])});
  }
  std::sort(slots.begin(), slots.end());
  decision.plans[layer] = base::PlanRemoval(slots, tokens.live());
}

void SparseAttentionPolicy::ForgetInAll(const RetentionState& state, ExpiryIndex& bounds, Tick now,
                                        ForgetDecision& decision) const {
  const Slot live = state.layer(0).live();
  for (uint32_t l = 1; l < layers_; ++l) EBB_CHECK(state.layer(l).live() == live);
  LiveSet live_set(*this, state, bounds, consensus_, now);
  const std::vector<Candidate> gone = live_set.Choose();
  if (gone.empty()) return;
  std::vector<Slot> slots;
  for (const Candidate& c : gone) {
    slots.push_back(c.slot);
    double retention = 0;
    for (uint32_t l = 0; l < layers_; ++l) {
      const LayerState& tokens = state.layer(l);
      // The same plans went to every layer, so a slot holds the same token in all of them.
      EBB_CHECK(tokens.position[c.slot] == c.position);
      const double elapsed =
          base::ElapsedTime(now, tokens.last_reset[c.slot], parameters().time_step);
      retention += base::Retention(elapsed, tokens.strength[c.slot]);
    }
    decision.forgotten.push_back({.position = c.position,
                                  .votes = live_set.Votes(c.slot),
                                  .layer = std::nullopt,
                                  .age_ticks = now - state.layer(0).born[c.slot],
                                  .retention = retention / layers_});
  }
  std::sort(slots.begin(), slots.end());
  decision.plans.assign(layers_, base::PlanRemoval(slots, live));
}

uint32_t SparseAttentionPolicy::MostLiveTokens(uint32_t prompt_tokens,
                                               uint32_t total_tokens) const {
  const uint32_t budget = parameters().max_live_tokens;
  // Protected tokens leave room within the budget (spec 5), so it is always reached by the first
  // decode step.
  return budget == 0 ? total_tokens : std::min(total_tokens, std::max(prompt_tokens, budget));
}

}  // namespace ebbinghaus::memory
