// One sequence: its K/V, its memory and the one decode path that every mode takes (docs/architecture.md):
// forget -> append newborns -> attention with weights -> update -> sample (memory-spec 2.5).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/engine.h"
#include "server/cache/kv_cache.h"
#include "server/engine/prefix_cache.h"
#include "server/engine/sampler.h"
#include "server/memory/policy.h"
#include "server/model/decoder.h"

namespace ebbinghaus::engine {

// One thread. A sequence whose step failed must not be stepped again.
class Sequence final : private model::MemoryMediator {
 public:
  // Begins with what `prefixes` has of the prompt, and leaves there what others may begin with; null: neither.
  Sequence(base::SequenceSpec spec, model::Decoder* decoder, cache::PagePool* pool, PrefixCache* prefixes = nullptr);

  uint32_t cached_prompt_tokens() const { return cached_; }
  bool prompt_read() const { return read_ >= spec_.prompt.size(); }

  // A step is Begin, the decoder's pass over the segment (with those of others), then End.
  // Reads up to `prompt_tokens` (>= 1) more of the prompt or, once it is read, feeds the last sampled token back, before
  // which it forgets and tells what.
  model::Segment Begin(uint32_t prompt_tokens, std::vector<base::ForgetEvent>& forgotten);
  // Samples, unless the prompt is not read to its end. Errors: the segment's status; Internal for logits that are no numbers.
  absl::StatusOr<std::optional<base::SampledToken>> End(model::Segment segment);

  // A step of this sequence alone.
  absl::StatusOr<std::optional<base::SampledToken>> Step(uint32_t prompt_tokens, std::vector<base::ForgetEvent>& forgotten);

  // Before the sequence goes: leaves its pristine pages to others, those of generated tokens too, unless its last step
  // failed.
  void KeepPristinePages();

  base::MemoryStats Stats() const;
  // One layer's tokens at positions begin <= p < end, forgotten ones too. Requires: spec.return_token_weights.
  base::TokenWeights TokenWeights(uint32_t layer, base::Position begin, base::Position end) const;
  // How long the last step worked on what only this sequence asked to be told.
  base::Duration report_time() const { return report_time_; }
  uint64_t kv_bytes() const { return cache_.bytes(); }
  uint64_t reserved_pages() const { return reserved_pages_; }
  uint64_t state_bytes() const { return state_bytes_; }

  // The logits that the last token was sampled from, as the model gave them: [V]. For tests.
  const std::vector<float>& last_logits() const { return logits_; }
  const cache::KvCache& cache() const { return cache_; }
  // Requires: a memory mode.
  const memory::RetentionState& state() const { return *state_; }
  // Replaces the sampled token by another before it is fed back. For teacher forcing.
  void ReplaceLastToken(base::TokenId id) { last_token_ = id; }

  // Where the pool books the pages of a mode's sequences.
  static cache::Account AccountOf(base::GenerationMode mode) { return static_cast<cache::Account>(mode); }
  static_assert(std::size(base::kAllModes) == cache::kCacheAccount);

  // Bytes beside K/V that a sequence of this spec can need at most: its memory's state, what it keeps for token weights and
  // attention, its logits.
  static uint64_t StateBytes(const base::SequenceSpec& spec, const model::ModelConfig& config);

  // Pages that a sequence of this spec can need at most, in all layers.
  static uint64_t PagesNeeded(const base::SequenceSpec& spec, const model::ModelConfig& config,
                              const cache::PageShape& shape);

 private:
  struct ForgottenToken {
    base::Position position = 0;
    uint32_t step = 0;
    float strength = 0, time = 0;
  };

  model::SlotMemory Weights(uint32_t layer) override;
  model::WantedMass Wanted(uint32_t layer) override;
  void ObservedRows(uint32_t layer, absl::Span<const double> mass_sum, absl::Span<const int32_t> last_strong_row) override;
  void ObservedLastRow(uint32_t layer, absl::Span<const float> mass) override;

  void BeginWith(Prefix prefix);
  void AppendPromptState(uint32_t tokens);
  float Strong() const { return static_cast<float>(spec_.memory.reset_threshold); }
  bool ObservesAllRows() const;
  void KeepPromptSoFar();
  void KeepPrompt(std::vector<PromptMass> mass);
  std::vector<base::ForgetEvent> Forget();
  void RecordForgotten(uint32_t layer, const base::SlotRemovalPlan& plan);
  bool reading_prompt() const { return step_ == 0; }
  std::vector<PromptMass> TakePromptMass();
  absl::StatusOr<base::SampledToken> Sample();
  bool WantsAttention(uint32_t layer) const;
  base::AttentionRow HeaviestPositions(uint32_t layer, absl::Span<const float> mass);
  base::LayerMemory LayerStats(uint32_t layer) const;

  const base::SequenceSpec spec_;
  model::Decoder* const decoder_;
  const std::unique_ptr<const memory::MemoryPolicy> policy_;
  const bool weighs_;  // in some layer slots do not all weigh the same
  const uint64_t reserved_pages_, state_bytes_;
  const uint64_t page_bytes_, page_tokens_;

  PrefixCache* const prefixes_;

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
  std::vector<std::vector<ForgottenToken>> forgotten_;  // [L], as they went; only with return_token_weights
  std::vector<PromptMass> prompt_mass_;                              // [L] while the prompt is read

  uint32_t cached_ = 0;  // tokens that came from prefixes_
  uint32_t known_ = 0;   // tokens of the prompt that others began with
  bool pristine_ = true;  // K/V is what plain attention gives, in the tokens' order
  bool sound_ = true;     // no step has failed, and none is under way

  // Of the pass under way.
  uint32_t pass_first_ = 0, pass_rows_ = 0;
  bool pass_samples_ = false;
  std::vector<base::AttentionRow> attention_;
  base::Duration report_time_{};
  std::vector<float> logits_;  // [V]
};

}  // namespace ebbinghaus::engine
