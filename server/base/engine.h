// What the scheduler knows of the engine. Free of torch, so that the scheduler builds, and is checked for races,
// without it; tests drive it with a fake.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/generation.h"
#include "server/base/ids.h"

namespace ebbinghaus::base {

struct ModelInfo {
  std::string name;
  std::string architecture;
  uint32_t vocabulary_size = 0;
  uint32_t context_tokens = 0;  // prompt and output together (spec 6.7)
  uint32_t layers = 0;
  uint32_t query_heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_size = 0;
  std::string weights;  // "f32", "bf16", ...
  std::string kv;
  std::string engine;               // "packed (avx2)", "reference"
  uint64_t weight_bytes = 0;        // resident
  uint64_t kv_bytes_per_token = 0;  // all layers, K and V
};

// A request that passed admission: everything in range, everything resolved.
struct SequenceSpec {
  std::vector<TokenId> prompt;  // not empty
  GenerationMode mode = GenerationMode::kBaseline;
  MemoryParameters memory;  // ignored by kBaseline
  SamplingParameters sampling;
  uint32_t max_new_tokens = 0;            // prompt.size() + max_new_tokens <= context_tokens
  uint32_t min_new_tokens = 0;            // until then none of end_token_ids is sampled
  std::vector<TokenId> end_token_ids;     // EOS ids unless ignored, and stop token ids
  bool return_logprobs = false;
  uint32_t top_logprobs = 0;
  std::optional<AttentionRequest> attention;
  bool return_token_weights = false;  // keep a record of what was forgotten, for TokenWeights()
  std::string cache_owner;            // prefixes are shared only between sequences of one owner
};

struct Candidate {
  TokenId id = 0;
  double logprob = 0;
};

// One layer's head-averaged attention of the row that produced a token, heaviest first.
struct AttentionRow {
  uint32_t layer = 0;
  std::vector<Position> positions;
  std::vector<float> weights;  // same length
};

struct SampledToken {
  TokenId id = 0;
  std::optional<double> logprob;      // ln softmax of the raw logits
  std::vector<Candidate> candidates;  // by falling logprob
  std::vector<AttentionRow> attention;
  uint32_t live_tokens = 0;  // maximum over layers
};

// spec 7. `layer` is set under ForgetScope::kPerLayer.
struct ForgetEvent {
  uint32_t step = 0;
  Position position = 0;
  TokenId token_id = 0;
  uint32_t votes = 0;
  std::optional<uint32_t> layer;
  uint32_t age_ticks = 0;     // ticks since birth, for the metric
  float retention = 0;        // at the moment of forgetting (mean over voting layers), for the metric
};

struct LayerMemory {
  uint32_t live_tokens = 0;
  double mean_strength = 0, max_strength = 0;
  double mean_time = 0, max_time = 0;  // time units
  double mean_retention = 0;
};

// spec 7; in baseline `layers` holds live_tokens only, the rest 0.
struct MemoryStats {
  uint32_t total_tokens = 0;      // prompt and fed-back tokens
  uint32_t live_tokens = 0;       // maximum over layers
  uint32_t forgotten_tokens = 0;  // total - live
  uint32_t forget_events = 0;
  uint64_t kv_bytes = 0, kv_peak_bytes = 0, kv_baseline_bytes = 0;
  std::vector<LayerMemory> layers;
};

// One layer, tokens that are or were, by rising position.
struct TokenWeights {
  uint32_t layer = 0;
  std::vector<Position> positions;
  std::vector<float> retention, strength, time;  // forgotten: retention 0, the rest as at that step
  std::vector<uint32_t> forgotten_step;          // 0 = live
};

struct StepItem {
  SequenceId sequence{};
  uint32_t prompt_tokens = 0;  // how many unread prompt tokens to read; 0 once the prompt is read (decode)
};

struct StepOutcome {
  SequenceId sequence{};
  absl::Status status;                // not OK: the sequence is broken and must be removed
  std::optional<SampledToken> token;  // set when the prompt is read to its end, and by every decode step
  std::vector<ForgetEvent> forgotten;
  // The part of the step's time that went into what only this sequence asked to be told: attention, log-probabilities.
  Duration report_time{};
};

// Owned and called by one thread, the scheduler's.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const ModelInfo& model() const = 0;

  // Begins with what the prefix cache has of the prompt; the rest is to be read.
  // Errors: ResourceExhausted when the K/V pool cannot hold what the sequence may need beside the others, and the same as
  // base::NeverFits when it could not by itself.
  virtual absl::StatusOr<SequenceId> Add(const SequenceSpec& spec) = 0;

  // Runs one iteration for every item; one outcome per item, in their order. A failure stays with its sequence.
  virtual std::vector<StepOutcome> Step(const std::vector<StepItem>& plan) = 0;

  // Requires: the sequence is there and its prompt is read.
  virtual MemoryStats Stats(SequenceId sequence) const = 0;
  // One layer's tokens at positions begin <= p < end; none in a mode without memory. Requires: spec.return_token_weights, its
  // prompt is read.
  virtual TokenWeights Weights(SequenceId sequence, uint32_t layer, Position begin, Position end) const = 0;

  // Frees everything the sequence holds, at once.
  virtual void Remove(SequenceId sequence) = 0;

  // How many tokens of its prompt need not be read, because the prefix cache had them: fewer than there are.
  virtual uint32_t cached_prompt_tokens(SequenceId sequence) const = 0;

  // K/V memory. What sequences use, what only the prefix cache holds (reclaimed before anybody is refused) and what is free
  // make up the capacity.
  virtual uint64_t kv_used_bytes(SequenceId sequence) const = 0;  // what it holds, shared with others or not
  virtual uint64_t kv_used_bytes() const = 0;                     // by all sequences; what they share counts once
  // The part of it that sequences of this mode use; what modes share counts for the first of them.
  virtual uint64_t kv_used_bytes(GenerationMode mode) const = 0;
  virtual uint64_t kv_cached_bytes() const = 0;
  virtual uint64_t kv_capacity_bytes() const = 0;
  // Gives back what is kept of prompts for later sequences. An engine that keeps none has nothing to do.
  virtual void DropCachedPrompts() {}
};

}  // namespace ebbinghaus::base
