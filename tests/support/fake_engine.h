// An engine that computes nothing: its tokens come from a script, its time from the test.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/base/engine.h"
#include "server/base/retry.h"
#include "tests/support/byte_tokenizer.h"

namespace ebbinghaus::support {

// What a test tells the engine and what it learns from it; outlives the engine, which its user may own. The functions
// are called on the engine's thread. Set them before the engine runs.
struct EngineScript {
  // The index-th token (from 0) of a sequence. By default the alphabet over and over.
  std::function<base::TokenId(const base::SequenceSpec&, uint32_t index)> token =
      [](const base::SequenceSpec&, uint32_t index) { return 'a' + index % 26; };
  // What the outcome of the index-th token's step says besides the token.
  std::function<void(const base::SequenceSpec&, uint32_t index, base::StepOutcome&)> decorate;
  // Before each step; may advance a clock, cancel somebody, throw.
  std::function<void(const std::vector<base::StepItem>&)> on_step;
  std::function<void()> on_stats;  // may throw
  std::function<absl::Status(const base::SequenceSpec&)> on_add;
  uint64_t capacity_tokens = 1u << 30;  // Add reserves prompt + max_new_tokens
  // How many prompt tokens the prefix cache had; fewer than there are.
  std::function<uint32_t(const base::SequenceSpec&)> cached_prompt_tokens = [](const base::SequenceSpec&) { return 0u; };
  std::atomic<uint64_t> kv_cached_bytes = 0;

  // Thread safe.
  std::vector<std::vector<base::StepItem>> steps() const { return Locked(steps_); }
  std::vector<std::string> broken_promises() const { return Locked(broken_promises_); }
  size_t sequences() const { return Locked(live_).size(); }

 private:
  friend class FakeEngine;
  template <typename T>
  T Locked(const T& value) const {
    std::lock_guard lock(mutex_);
    return value;
  }
  mutable std::mutex mutex_;
  std::vector<std::vector<base::StepItem>> steps_;
  std::vector<std::string> broken_promises_;  // what the engine's user must not do
  std::set<uint64_t> live_;
};

inline base::ModelInfo FakeModel() {
  base::ModelInfo model;
  model.name = "fake";
  model.architecture = "none";
  model.vocabulary_size = kByteVocabulary;
  model.context_tokens = 1000;
  model.layers = 4;
  model.weights = model.kv = "f32";
  return model;
}

class FakeEngine final : public base::Engine {
 public:
  static constexpr uint64_t kBytesPerToken = 100;

  explicit FakeEngine(std::shared_ptr<EngineScript> script, base::ModelInfo model = FakeModel())
      : script_(std::move(script)), model_(std::move(model)) {}
  ~FakeEngine() override {
    if (!sequences_.empty()) Broken("sequences are left at the end");
  }

  const base::ModelInfo& model() const override { return model_; }

  absl::StatusOr<base::SequenceId> Add(const base::SequenceSpec& spec) override {
    if (script_->on_add) {
      if (absl::Status status = script_->on_add(spec); !status.ok()) return status;
    }
    const uint64_t needed = spec.prompt.size() + spec.max_new_tokens;
    if (needed > script_->capacity_tokens) return base::NeverFits(absl::ResourceExhaustedError("more than all fake memory"));
    if (reserved_ + needed > script_->capacity_tokens) return absl::ResourceExhaustedError("fake memory is full");
    reserved_ += needed;
    const base::SequenceId id{++last_id_};
    sequences_[id].cached = sequences_[id].read = script_->cached_prompt_tokens(spec);
    sequences_[id].spec = spec;
    std::lock_guard lock(script_->mutex_);
    script_->live_.insert(last_id_);
    return id;
  }

  std::vector<base::StepOutcome> Step(const std::vector<base::StepItem>& plan) override {
    {
      std::lock_guard lock(script_->mutex_);
      script_->steps_.push_back(plan);
    }
    if (plan.empty()) Broken("an empty plan");
    if (script_->on_step) script_->on_step(plan);
    std::vector<base::StepOutcome> outcomes;
    std::set<base::SequenceId> seen;
    for (const base::StepItem& item : plan) {
      if (!seen.insert(item.sequence).second) Broken("a sequence twice in a plan");
      outcomes.push_back(RunItem(item));
    }
    return outcomes;
  }

  base::MemoryStats Stats(base::SequenceId id) const override {
    if (script_->on_stats) script_->on_stats();
    const Sequence& sequence = sequences_.at(id);
    if (sequence.read < sequence.spec.prompt.size()) Broken("Stats before the prompt is read");
    base::MemoryStats stats;
    stats.total_tokens = stats.live_tokens = Live(sequence);
    stats.kv_bytes = Live(sequence) * kBytesPerToken;
    stats.layers.resize(model_.layers);
    for (base::LayerMemory& layer : stats.layers) layer.mean_retention = 0.5;
    return stats;
  }

  base::TokenWeights Weights(base::SequenceId id, uint32_t layer, base::Position begin,
                             base::Position end) const override {
    if (!sequences_.at(id).spec.return_token_weights) Broken("Weights that were not asked for");
    if (layer >= model_.layers || end > Live(sequences_.at(id))) Broken("Weights of what is not there");
    base::TokenWeights weights;
    weights.layer = layer;
    for (base::Position p = begin; p < end; ++p) weights.positions.push_back(p);
    for (auto* values : {&weights.retention, &weights.strength, &weights.time}) values->resize(end - begin);
    weights.forgotten_step.resize(end - begin);
    return weights;
  }

  void Remove(base::SequenceId id) override {
    const auto found = sequences_.find(id);
    if (found == sequences_.end()) return Broken("Remove of an unknown sequence");
    reserved_ -= found->second.spec.prompt.size() + found->second.spec.max_new_tokens;
    sequences_.erase(found);
    std::lock_guard lock(script_->mutex_);
    script_->live_.erase(static_cast<uint64_t>(id));
  }

  uint32_t cached_prompt_tokens(base::SequenceId id) const override { return sequences_.at(id).cached; }
  uint64_t kv_used_bytes(base::SequenceId id) const override { return Live(sequences_.at(id)) * kBytesPerToken; }
  uint64_t kv_used_bytes() const override {
    uint64_t bytes = 0;
    for (const auto& [id, sequence] : sequences_) bytes += Live(sequence) * kBytesPerToken;
    return bytes;
  }
  uint64_t kv_used_bytes(base::GenerationMode mode) const override {
    uint64_t bytes = 0;
    for (const auto& [id, sequence] : sequences_) bytes += sequence.spec.mode == mode ? Live(sequence) * kBytesPerToken : 0;
    return bytes;
  }
  uint64_t kv_cached_bytes() const override { return script_->kv_cached_bytes; }
  uint64_t kv_capacity_bytes() const override { return script_->capacity_tokens * kBytesPerToken; }

 private:
  struct Sequence {
    base::SequenceSpec spec;
    uint32_t cached = 0, read = 0, generated = 0;
  };

  static uint32_t Live(const Sequence& s) { return s.read + (s.generated > 0 ? s.generated - 1 : 0); }

  base::StepOutcome RunItem(const base::StepItem& item) {
    base::StepOutcome outcome;
    outcome.sequence = item.sequence;
    const auto found = sequences_.find(item.sequence);
    if (found == sequences_.end()) {
      Broken("a step of an unknown sequence");
      outcome.status = absl::InternalError("unknown sequence");
      return outcome;
    }
    Sequence& sequence = found->second;
    const auto prompt = static_cast<uint32_t>(sequence.spec.prompt.size());
    if ((sequence.read < prompt) != (item.prompt_tokens > 0)) Broken("prompt_tokens does not fit what is unread");
    sequence.read = std::min(prompt, sequence.read + item.prompt_tokens);
    if (sequence.read < prompt) return outcome;
    base::SampledToken token;
    token.id = script_->token(sequence.spec, sequence.generated);
    outcome.token = token;
    ++sequence.generated;
    outcome.token->live_tokens = Live(sequence);
    if (script_->decorate) script_->decorate(sequence.spec, sequence.generated - 1, outcome);
    if (sequence.generated > sequence.spec.max_new_tokens) Broken("more tokens than max_new_tokens");
    return outcome;
  }

  void Broken(std::string promise) const {
    std::lock_guard lock(script_->mutex_);
    script_->broken_promises_.push_back(std::move(promise));
  }

  const std::shared_ptr<EngineScript> script_;
  const base::ModelInfo model_;
  std::map<base::SequenceId, Sequence> sequences_;
  uint64_t reserved_ = 0;
  uint64_t last_id_ = 0;
};

}  // namespace ebbinghaus::support
