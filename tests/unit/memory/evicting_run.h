// A sequence as the engine runs it, with made-up attention in the model's place: real policy, real
// state, and a cache of one number per token that follows the removal plans.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "server/memory/policy.h"
#include "tests/unit/memory/masked_model.h"

namespace ebbinghaus::memory {

inline double Value(uint64_t seed, uint32_t layer, base::Position position) {
  return 2 * Noise(seed, layer + 1000, 7, position) - 1;
}

// The order of spec 2.5. Both runs offer the same face, so that a test drives them side by side.
class EvictingRun {
 public:
  EvictingRun(const base::MemoryParameters& parameters, uint32_t layers, uint64_t seed)
      : seed_(seed),
        policy_(MakePolicy(base::GenerationMode::kSparseAttention, parameters, layers)),
        state_(policy_->NewState(layers)),
        values_(layers),
        outputs_(layers) {}

  void ReadPrompt(base::Position tokens) {
    for (base::Position p = 0; p < tokens; ++p) {
      now_ = static_cast<base::Tick>(p) * policy_->prompt_ticks();
      Append();
      Attend(p, p >= policy_->FirstObservedRow(tokens) ? 1.0f : 0.0f);
    }
    now_ = static_cast<base::Tick>(tokens) * policy_->prompt_ticks();
    first_row_ = tokens;
  }

  std::vector<Event> Step() {
    ++now_;
    ++step_;
    std::vector<Event> events;
    const ForgetDecision decision = policy_->Forget(state_, now_);
    for (const Forgotten& f : decision.forgotten)
      events.push_back({step_, f.position, f.votes, f.layer});
    for (uint32_t l = 0; l < decision.plans.size(); ++l) {
      state_.Remove(l, decision.plans[l]);
      base::ApplyRemoval(decision.plans[l], values_[l]);
    }
    Append();
    Attend(first_row_ + step_, policy_->ObservationGain(step_));
    return events;
  }

  const RetentionState& state() const { return state_; }
  const std::vector<double>& outputs() const { return outputs_; }  // [L], of the last row
  base::Tick now() const { return now_; }
  uint32_t step() const { return step_; }

 private:
  void Append() {
    const base::Position p = state_.next_position();
    state_.Append(p, now_);
    for (uint32_t l = 0; l < values_.size(); ++l) values_[l].push_back(Value(seed_, l, p));
  }

  void Attend(uint32_t row, float gain) {
    for (uint32_t l = 0; l < values_.size(); ++l) {
      const std::vector<base::Position>& positions = state_.layer(l).position;
      std::vector<base::Slot> by_position(positions.size());
      std::iota(by_position.begin(), by_position.end(), 0);
      std::sort(by_position.begin(), by_position.end(),
                [&](base::Slot a, base::Slot b) { return positions[a] < positions[b]; });
      std::vector<base::Position> sorted;
      for (base::Slot slot : by_position) sorted.push_back(positions[slot]);
      const std::vector<float> row_mass = AttentionRow(seed_, l, row, sorted);
      std::vector<float> mass(positions.size());
      for (size_t i = 0; i < mass.size(); ++i) mass[by_position[i]] = row_mass[i];
      outputs_[l] = std::inner_product(mass.begin(), mass.end(), values_[l].begin(), 0.0);
      if (gain > 0) state_.Observe(l, mass, gain, now_);
    }
  }

  const uint64_t seed_;
  const std::unique_ptr<const MemoryPolicy> policy_;
  RetentionState state_;
  std::vector<std::vector<double>> values_;  // [L][N]: the cache
  std::vector<double> outputs_;
  base::Tick now_ = 0;
  uint32_t step_ = 0, first_row_ = 0;
};

class MaskingRun {
 public:
  MaskingRun(const base::MemoryParameters& parameters, uint32_t layers, uint64_t seed)
      : seed_(seed), p_(parameters), model_(parameters, layers), outputs_(layers) {}

  void ReadPrompt(base::Position tokens) {
    const base::Position window = p_.prompt_observation == base::PromptObservation::kAll ? tokens
                                  : p_.prompt_observation == base::PromptObservation::kWindow
                                      ? p_.prompt_window_tokens
                                      : 1;
    for (base::Position p = 0; p < tokens; ++p) {
      now_ = static_cast<base::Tick>(p * p_.prompt_ticks);
      model_.Append(now_);
      Attend(p, p + window >= tokens ? 1.0f : 0.0f);
    }
    now_ = static_cast<base::Tick>(tokens * p_.prompt_ticks);
    first_row_ = tokens;
  }

  std::vector<Event> Step() {
    ++now_;
    ++step_;
    std::vector<Event> events = model_.Forget(step_, now_);
    model_.Append(now_);
    Attend(first_row_ + step_,
           step_ % p_.observe_interval == 0 ? static_cast<float>(p_.observe_interval) : 0.0f);
    return events;
  }

  const MaskedModel& model() const { return model_; }
  const std::vector<double>& outputs() const { return outputs_; }

 private:
  void Attend(uint32_t row, float gain) {
    for (uint32_t l = 0; l < outputs_.size(); ++l) {
      const std::vector<base::Position> live = model_.Live(l);
      const std::vector<float> mass = AttentionRow(seed_, l, row, live);
      outputs_[l] = 0;
      for (size_t i = 0; i < live.size(); ++i) outputs_[l] += mass[i] * Value(seed_, l, live[i]);
      if (gain > 0) model_.Observe(l, mass, gain, now_);
    }
  }

  const uint64_t seed_;
  const base::MemoryParameters p_;
  MaskedModel model_;
  std::vector<double> outputs_;
  base::Tick now_ = 0;
  uint32_t step_ = 0, first_row_ = 0;
};

}  // namespace ebbinghaus::memory
