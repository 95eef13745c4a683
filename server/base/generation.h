// Plain values that describe one generation: mode, memory, sampling. Ranges are checked at
// admission (memory::Resolve, scheduler::Scheduler::Submit); below it they hold.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "server/base/ids.h"
#include "server/base/token_ranges.h"

namespace ebbinghaus::base {

enum class GenerationMode { kBaseline, kSoftDelete, kSparseAttention };
inline constexpr GenerationMode kAllModes[] = {
    GenerationMode::kBaseline, GenerationMode::kSoftDelete, GenerationMode::kSparseAttention};
// "baseline", "soft_delete", "sparse_attention": the metric label and the flag value.
std::string_view Name(GenerationMode mode);

enum class FinishReason { kEos, kStop, kLength, kDraining };
std::string_view Name(FinishReason reason);  // "eos", "stop", "length", "draining"

enum class SoftForm { kLogBias, kKvScale };
enum class ForgetScope { kConsensus, kPerLayer };
enum class VoteLayers { kAll, kFirstHalf };
enum class PromptObservation { kLast, kWindow, kAll };

// memory-spec section 5; the initial values are preset `default` (spec 4.6).
struct MemoryParameters {
  double initial_strength = 5.0;
  double time_step = 0.01;
  double reset_threshold = 0.01;
  double forget_threshold = 0.001;
  double vote_ratio = 0.5;
  VoteLayers vote_layers = VoteLayers::kAll;
  ForgetScope scope = ForgetScope::kConsensus;
  double soft_floor = 0.8;
  double soft_ceiling = 1.0;
  double soft_layer_ratio = 0.5;
  SoftForm soft_form = SoftForm::kLogBias;
  uint32_t sink_tokens = 4;
  uint32_t recent_tokens = 64;
  uint32_t min_live_tokens = 1;
  uint32_t max_live_tokens = 0;
  uint32_t observe_interval = 1;
  uint32_t prompt_ticks = 0;
  PromptObservation prompt_observation = PromptObservation::kLast;
  uint32_t prompt_window_tokens = 0;  // used with kWindow only
  double strength_cap = 0;
  TokenRanges pinned;

  bool operator==(const MemoryParameters&) const = default;
};

struct SamplingParameters {
  double temperature = 0.7;  // 0 = greedy
  double top_p = 0.9;
  uint32_t top_k = 0;  // 0 = off
  double min_p = 0;
  double repetition_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  uint64_t seed = 0;
  std::vector<std::pair<TokenId, double>> logit_bias = {};
};

// Which attention rows a sequence wants back.
struct AttentionRequest {
  std::vector<uint32_t> layers;  // empty = all
  uint32_t top_k = 32;           // 0 = every live position
  uint32_t every_n_tokens = 1;
};

}  // namespace ebbinghaus::base
