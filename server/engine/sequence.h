// One sequence: its K/V, its memory and the one decode path that every mode takes (docs/architecture.md):
// forget -> append newborns -> attention with weights -> update -> sample (memory-spec 2.5).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

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
  Sequence(base::SequenceSpec spec, model::Decoder* decoder, cache::PagePool* pool);

  bool prompt_read() const { return read_ >= spec_.prompt.size(); }

  // A step is Begin, the decoder's pass over the segment (with those of others), then End.
  // Reads up to `prompt_tokens` (>= 1) more of the prompt or, once it is read, feeds the last sampled token back, before
  // which it forgets and tells what.
  model::Segment Begin(uint32_t prompt_tokens, std::vector<base::ForgetEvent>& forgotten);
  // Samples, unless the prompt is not read to its end. Errors: the segment's status; Internal for logits that are no numbers.
  absl::StatusOr<std::optional<base::SampledToken>> End(model::Segment segment);

  // A step of this sequence alone.
  absl::StatusOr<std::optional<base::SampledToken>> Step(uint32_t prompt_tokens, std::vector<base::ForgetEvent>& forgotten);

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

  // What the prompt's observed rows gave one layer's tokens so far. Kept apart until the prompt is read, so that the sums
  // do not depend on how it was cut into passes (spec 6.9).
  struct PromptMass {
    std::vector<double> sum;             // [P]
    std::vector<base::Tick> last_reset;  // [P], -1 = none
  };

  model::SlotMemory Weights(uint32_t layer) override;
  model::WantedMass Wanted(uint32_t layer) override;
  void ObservedRows(uint32_t layer, absl::Span<const double> mass_sum, absl::Span<const int32_t> last_strong_row) override;
  void ObservedLastRow(uint32_t layer, absl::Span<const float> mass) override;

  std::vector<base::ForgetEvent> Forget();
  void RecordForgotten(uint32_t layer, const std::vector<base::Position>& positions);
  bool reading_prompt() const { return step_ == 0; }
  void TakePromptMass();
  absl::StatusOr<base::SampledToken> Sample();
  bool WantsAttention(uint32_t layer) const;
  base::AttentionRow HeaviestPositions(uint32_t layer, absl::Span<const float> mass) const;
  base::LayerMemory LayerStats(uint32_t layer) const;

  const base::SequenceSpec spec_;
  model::Decoder* const decoder_;
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
  std::vector<PromptMass> prompt_mass_;                              // [L] while the prompt is read

  // Of the pass under way.
  uint32_t pass_first_ = 0, pass_rows_ = 0;
  bool pass_samples_ = false;
  std::vector<base::AttentionRow> attention_;
  std::vector<float> logits_;  // [V]
};

}  // namespace ebbinghaus::engine
