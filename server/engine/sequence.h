// One sequence: its K/V, its memory and the one decode path that every mode takes (docs/architecture.md):
// forget -> append newborns -> attention with weights -> update -> sample (memory-spec 2.5).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/base/engine.h"
#include "server/cache/kv_cache.h"
#include "server/engine/sampler.h"
#include "server/memory/policy.h"
#include "server/model/decoder.h"

namespace ebbinghaus::engine {

// One thread. A sequence whose step failed must not be stepped again.
class Sequence final : private model::MemoryMediator {
 public:
  Sequence(base::SequenceSpec spec, const model::Decoder* decoder, cache::PagePool* pool);

  bool prompt_read() const { return read_ >= spec_.prompt.size(); }

  // Reads up to `count` prompt tokens; with the last one samples the first token. Requires: !prompt_read().
  absl::StatusOr<std::optional<base::SampledToken>> ReadPrompt(uint32_t count);

  // Feeds the last sampled token back and samples the next; appends what was forgotten before the pass.
  // Requires: prompt_read().
  absl::StatusOr<base::SampledToken> Decode(std::vector<base::ForgetEvent>& forgotten);

  base::MemoryStats Stats() const;
  std::vector<base::TokenWeights> Weights() const;  // Requires: spec.return_token_weights
  uint64_t kv_bytes() const { return cache_.bytes(); }
  uint64_t reserved_pages() const { return reserved_pages_; }

  // The logits that the last token was sampled from, as the model gave them: [V]. For tests.
  const std::vector<float>& last_logits() const { return logits_; }
  const cache::KvCache& cache() const { return cache_; }
  // Requires: a memory mode.
  const memory::RetentionState& state() const { return *state_; }
  // Replaces the sampled token by another before it is fed back. For teacher forcing.
  void ReplaceLastToken(base::TokenId id) { last_token_ = id; }

  // Pages that a sequence of this spec can need at most, in all layers.
  static uint64_t PagesNeeded(const base::SequenceSpec& spec, const model::ModelConfig& config,
                              const cache::PageShape& shape);

 private:
  struct ForgottenToken {
    uint32_t step = 0;
    float strength = 0, time = 0;
  };

  model::SlotWeights Weights(uint32_t layer, uint32_t live) override;
  std::optional<int64_t> FirstObservedRow(uint32_t layer) override;
  void Observed(uint32_t layer, const at::Tensor& mass) override;

  std::vector<base::ForgetEvent> Forget();
  void RecordForgotten(uint32_t layer, const std::vector<base::Position>& positions);
  absl::Status Pass(absl::Span<const base::TokenId> tokens);
  absl::StatusOr<base::SampledToken> Sample();
  bool WantsAttention(uint32_t layer) const;
  base::AttentionRow HeaviestPositions(uint32_t layer, absl::Span<const float> mass) const;
  base::LayerMemory LayerStats(uint32_t layer) const;

  const base::SequenceSpec spec_;
  const model::Decoder* const decoder_;
  const std::unique_ptr<const memory::MemoryPolicy> policy_;
  const uint64_t reserved_pages_;
  const uint64_t page_bytes_, page_tokens_;

  cache::KvCache cache_;
  std::optional<memory::RetentionState> state_;  // if the policy keeps any
  Sampler sampler_;

  std::vector<base::TokenId> tokens_;  // by position: the prompt and what was fed back
  uint32_t read_ = 0;                  // tokens the model has seen = the next position
  uint32_t step_ = 0;                  // 0 = the prompt (spec 2.2)
  uint32_t generated_ = 0;
  base::Tick clock_ = 0;
  base::TokenId last_token_ = 0;
  uint32_t forget_events_ = 0;
  uint64_t kv_peak_bytes_ = 0;
  std::vector<std::map<base::Position, ForgottenToken>> forgotten_;  // [L], only with return_token_weights

  // Of the pass under way.
  uint32_t pass_first_ = 0, pass_rows_ = 0;
  bool pass_samples_ = false;
  std::vector<float> slot_weights_;  // [N]
  std::vector<base::AttentionRow> attention_;
  std::vector<float> logits_;  // [V]
};

}  // namespace ebbinghaus::engine
