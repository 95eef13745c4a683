// Two things that tests of memory share: attention that is made up but behaves like attention, and
// the specification read literally: a model that keeps every token, masks the forgotten ones and
// looks at all of them at every step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <tuple>
#include <vector>

#include "server/base/generation.h"

namespace ebbinghaus::memory {

// What a forgetting run tells the outside: spec 7.
struct Event {
  uint32_t step = 0;
  base::Position position = 0;
  uint32_t votes = 0;
  std::optional<uint32_t> layer;

  bool operator==(const Event&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Event& e) {
    out << "{step " << e.step << ", position " << e.position << ", votes " << e.votes;
    if (e.layer) out << ", layer " << *e.layer;
    return out << "}";
  }
};

// A number in [0, 1) that depends on nothing but the key.
inline double Noise(uint64_t seed, uint64_t layer, uint64_t step, uint64_t position) {
  uint64_t x = seed * 0x9e3779b97f4a7c15ull + layer * 0xd1b54a32d192ed03ull +
               step * 0x8cb92ba72f3d8dd7ull + position;
  for (int round = 0; round < 3; ++round) {
    x = (x ^ (x >> 31)) * 0xbf58476d1ce4e5b9ull + 0x94d049bb133111ebull;
  }
  return static_cast<double>((x ^ (x >> 29)) >> 11) * 0x1.0p-53;
}

// One attention row over the given positions (rising): non-negative, sums to 1. A few tokens draw
// most of it, each token has a charm of its own that lasts, and the rest changes from step to step.
inline std::vector<float> AttentionRow(uint64_t seed, uint32_t layer, uint32_t step,
                                       const std::vector<base::Position>& positions) {
  std::vector<double> row;
  double sum = 0;
  for (base::Position p : positions) {
    row.push_back(std::exp(3 * Noise(seed, layer, 0, p) + 6 * Noise(seed, layer, step + 1, p)));
    sum += row.back();
  }
  std::vector<float> mass;
  for (double value : row) mass.push_back(static_cast<float>(value / sum));
  return mass;
}

// Nothing is ever removed here, no bound is kept, every rule is applied one token at a time, as the
// text says it.
class MaskedModel {
 public:
  struct Cell {
    float strength = 0;
    base::Tick last_reset = 0;
    bool alive = true;
  };

  MaskedModel(const base::MemoryParameters& parameters, uint32_t layers)
      : p_(parameters), cells_(layers) {}

  void Append(base::Tick now) {
    for (auto& layer : cells_)
      layer.push_back({static_cast<float>(p_.initial_strength), now, true});
  }

  std::vector<base::Position> Live(uint32_t layer) const {
    std::vector<base::Position> live;
    for (base::Position p = 0; p < cells_[layer].size(); ++p) {
      if (cells_[layer][p].alive) live.push_back(p);
    }
    return live;
  }

  const Cell& cell(uint32_t layer, base::Position position) const {
    return cells_[layer][position];
  }

  // `mass` stands beside Live(layer).
  void Observe(uint32_t layer, const std::vector<float>& mass, float gain, base::Tick now) {
    const std::vector<base::Position> live = Live(layer);
    for (size_t i = 0; i < mass.size(); ++i) {
      Cell& cell = cells_[layer][live[i]];
      cell.strength += gain * mass[i];
      if (p_.strength_cap > 0)
        cell.strength = std::min(cell.strength, static_cast<float>(p_.strength_cap));
      if (mass[i] >= static_cast<float>(p_.reset_threshold)) cell.last_reset = now;
    }
  }

  std::vector<Event> Forget(uint32_t step, base::Tick now) {
    std::vector<Event> events;
    const auto layers = static_cast<uint32_t>(cells_.size());
    if (p_.scope == base::ForgetScope::kPerLayer) {
      for (uint32_t l = 0; l < layers; ++l) ForgetTogether({l}, {l}, step, now, l, events);
      return events;
    }
    const uint32_t voters = p_.vote_layers == base::VoteLayers::kAll ? layers : (layers + 1) / 2;
    std::vector<uint32_t> all, voting;
    for (uint32_t l = 0; l < layers; ++l) (l < voters ? voting : all).push_back(l);
    all.insert(all.end(), voting.begin(), voting.end());
    ForgetTogether(all, voting, step, now, std::nullopt, events);
    return events;
  }

 private:
  bool Votes(uint32_t layer, base::Position p, base::Tick now) const {
    const Cell& c = cells_[layer][p];
    return p_.time_step * (now - c.last_reset) > c.strength * std::log(1 / p_.forget_threshold);
  }

  // Spec 4.4: e = a + S * ln(1/theta) / dt; by S when time stands still.
  double Expiry(const std::vector<uint32_t>& voting, size_t need, base::Position p) const {
    std::vector<double> e;
    for (uint32_t l : voting) {
      const Cell& c = cells_[l][p];
      e.push_back(p_.time_step == 0
                      ? c.strength
                      : c.last_reset +
                            c.strength * std::log(1 / p_.forget_threshold) / p_.time_step);
    }
    std::sort(e.begin(), e.end());
    return e[need - 1];
  }

  bool Kept(base::Position p, const std::vector<base::Position>& live) const {
    if (p < p_.sink_tokens) return true;
    for (const base::TokenRange& r : p_.pinned.ranges()) {
      if (p >= r.begin && p < r.end) return true;
    }
    const auto newer = live.end() - std::upper_bound(live.begin(), live.end(), p);
    return static_cast<uint64_t>(newer) < p_.recent_tokens;
  }

  void ForgetTogether(const std::vector<uint32_t>& losing, const std::vector<uint32_t>& voting,
                      uint32_t step, base::Tick now, std::optional<uint32_t> layer,
                      std::vector<Event>& events) {
    const std::vector<base::Position> live = Live(losing[0]);
    const double share = p_.scope == base::ForgetScope::kPerLayer
                             ? 1
                             : p_.vote_ratio * static_cast<double>(voting.size());
    const size_t need = std::max<size_t>(1, static_cast<size_t>(std::ceil(share - 1e-9)));
    std::map<base::Position, uint32_t> votes;
    std::set<std::pair<double, base::Position>> expired, others;
    for (base::Position p : live) {
      for (uint32_t l : voting) votes[p] += Votes(l, p, now);
      if (!Kept(p, live))
        (votes[p] >= need ? expired : others).insert({Expiry(voting, need, p), p});
    }
    std::set<base::Position> gone;
    const auto stay = [&] { return live.size() - gone.size() + 1; };  // with the newborn
    while (!expired.empty() && stay() > p_.min_live_tokens) {
      gone.insert(expired.begin()->second);
      expired.erase(expired.begin());
    }
    others.insert(expired.begin(), expired.end());
    while (p_.max_live_tokens > 0 && stay() > p_.max_live_tokens && !others.empty()) {
      gone.insert(others.begin()->second);
      others.erase(others.begin());
    }
    for (base::Position p : gone) {
      for (uint32_t l : losing) cells_[l][p].alive = false;
      events.push_back({step, p, votes[p], layer});
    }
  }

  const base::MemoryParameters p_;
  std::vector<std::vector<Cell>> cells_;  // [L][position]
};

}  // namespace ebbinghaus::memory
