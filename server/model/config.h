// What a decoder looks like, read from a checkpoint's config and checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/ids.h"

namespace ebbinghaus::model {

enum class Architecture { kLlama, kMistral, kQwen2, kQwen3 };
std::string_view Name(Architecture architecture);  // "llama", "mistral", "qwen2", "qwen3"

struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 } kind = Kind::kNone;
  double factor = 1;
  double low_frequency_factor = 1, high_frequency_factor = 4;  // kLlama3
  double original_context = 8192;                              // kLlama3
};

struct ModelConfig {
  std::string name;
  Architecture architecture = Architecture::kLlama;
  uint32_t layers = 0;
  uint32_t context = 0;  // trained positions, capped by a sliding window where one is in use
  int64_t hidden = 0, feed_forward = 0, query_heads = 0, kv_heads = 0, head_size = 0, vocabulary = 0;
  double rms_norm_epsilon = 1e-6;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  std::vector<float> rope_factors;  // [head_size / 2] divisors that a GGUF file brings along, or empty
  bool tied_embeddings = false;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;
  std::vector<base::TokenId> eos_token_ids;
  std::optional<base::TokenId> bos_token_id;

  // Errors: InvalidArgument naming the first value that makes no sense.
  absl::Status Check() const;
};

// The architecture of a name in config.json's `model_type` or GGUF's `general.architecture`.
// Errors: InvalidArgument that lists what is supported.
absl::StatusOr<Architecture> ParseArchitecture(std::string_view name);

// From the texts of config.json and generation_config.json (empty: none). Both the older `rope_scaling`, `rope_theta` and
// the newer `rope_parameters` are understood. Errors: InvalidArgument naming the key.
absl::StatusOr<ModelConfig> ParseHuggingFaceConfig(std::string_view config_json, std::string_view generation_json);

// [head_size / 2] inverse frequencies, scaling applied. Source: Su et al. 2021; the llama3 scaling as Meta's Llama 3.1 code
// describes it.
std::vector<float> RopeInverseFrequencies(const ModelConfig& config);

}  // namespace ebbinghaus::model
