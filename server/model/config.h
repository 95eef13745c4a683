// What a decoder looks like, read from a checkpoint's configuration and checked.
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

// The architecture of a name in config.json's `model_type` or GGUF's `general.architecture`.
// Errors: InvalidArgument that lists what is supported.
absl::StatusOr<Architecture> ParseArchitecture(std::string_view name);

struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 } kind = Kind::kNone;
  double factor = 1;
  double low_frequency_factor = 1, high_frequency_factor = 4;  // kLlama3
  double original_context = 8192;                              // kLlama3
};

struct ModelConfig {
  std::string name;  // for people and logs: one line of UTF-8, not empty
  Architecture architecture = Architecture::kLlama;
  uint32_t layers = 0;
  uint32_t context = 0;  // trained positions, capped by a sliding window where one is in use
  int64_t hidden = 0, feed_forward = 0, query_heads = 0, kv_heads = 0, head_size = 0;
  int64_t vocabulary = 0;  // rows of the embedding; the tokenizer may know fewer
  double rms_norm_epsilon = 1e-6;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  std::vector<float> rope_factors;  // [head_size / 2] divisors that a GGUF file brings along, or empty
  bool tied_embeddings = false;     // the head is the embedding
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool qk_norm = false;
  std::vector<base::TokenId> eos_token_ids;  // every id that ends a text or a turn; no duplicates, may be empty
  std::optional<base::TokenId> bos_token_id;
};

// What the values are called in the file they come from, so that an error points at the line to look at.
struct ConfigKeys {
  std::string file, layers, context, hidden, feed_forward, query_heads, kv_heads, head_size, vocabulary, rms_norm_epsilon,
      rope_theta, rope_scaling, rope_factors, eos_token_id, bos_token_id;
};

// Every value is in a range in which products of sizes stay far below 2^63, and the values fit one another.
// Errors: InvalidArgument naming the key, its value and the range.
absl::Status CheckConfig(const ModelConfig& config, const ConfigKeys& keys);

// From the texts of config.json and generation_config.json (empty: none); sets everything but `name`. Understands both the
// older keys (rope_theta, rope_scaling) and those of transformers 5 (rope_parameters).
// Errors: InvalidArgument naming file and key, for malformed JSON and for what is not supported: other architectures, rope
// scalings and activations, partial rotation, quantized weights.
// Source: the configuration classes of Hugging Face transformers, whose defaults apply to keys that are absent.
absl::StatusOr<ModelConfig> ParseHuggingFaceConfig(std::string_view config_json, std::string_view generation_json);

// Context of a model whose layers see only their last `window` tokens (0 or less: all of them): there all the layers' views agree.
uint32_t CapContext(uint32_t context, int64_t window);

// [head_size / 2] inverse frequencies, scaling applied, each step rounded to fp32 as transformers rounds it.
// Source: Su et al. 2021 (arXiv 2104.09864); `llama3`: transformers' modeling_rope_utils.py.
std::vector<float> RopeInverseFrequencies(const ModelConfig& config);

}  // namespace ebbinghaus::model
