#include "server/model/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "server/base/status_macros.h"
#include "server/model/json_guard.h"

namespace ebbinghaus::model {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kNames[] = {"llama", "mistral", "qwen2", "qwen3"};

absl::Status Bad(std::string_view key, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", std::string(key), " ", std::string(what)));
}

// A value that may be absent or null, in either of which cases `target` keeps its value.
absl::Status Read(const Json& json, const char* key, double& target) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return absl::OkStatus();
  if (!found->is_number()) return Bad(key, "must be a number");
  target = found->get<double>();
  return absl::OkStatus();
}

template <typename Int>
absl::Status ReadCount(const Json& json, const char* key, Int& target) {
  double value = static_cast<double>(target);
  EBB_RETURN_IF_ERROR(Read(json, key, value));
  if (!(value >= 0 && value <= 2147483647.0 && value == std::floor(value))) return Bad(key, "must be a whole number in [0, 2^31)");
  target = static_cast<Int>(value);
  return absl::OkStatus();
}

absl::Status Read(const Json& json, const char* key, bool& target) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return absl::OkStatus();
  if (!found->is_boolean()) return Bad(key, "must be true or false");
  target = found->get<bool>();
  return absl::OkStatus();
}

// A token id or a list of them.
absl::Status ReadIds(const Json& json, const char* key, std::vector<base::TokenId>& target) {
  const auto found = json.find(key);
  if (found == json.end() || found->is_null()) return absl::OkStatus();
  const Json list = found->is_array() ? *found : Json::array({*found});
  for (const Json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > 0x7fffffff) return Bad(key, "must be a token id or a list of them");
    target.push_back(id.get<base::TokenId>());
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const Json& json, ModelConfig& config) {
  EBB_RETURN_IF_ERROR(Read(json, "rope_theta", config.rope_theta));
  Json rope;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const auto found = json.find(key);
    if (found == json.end() || found->is_null()) continue;
    if (!found->is_object()) return Bad(key, "must be an object");
    rope = *found;
  }
  if (rope.is_null()) return absl::OkStatus();
  EBB_RETURN_IF_ERROR(Read(rope, "rope_theta", config.rope_theta));
  RopeScaling& scaling = config.rope_scaling;
  std::string kind = "default";
  for (const char* key : {"type", "rope_type"}) {
    const auto found = rope.find(key);
    if (found != rope.end() && found->is_string()) kind = found->get<std::string>();
  }
  if (kind == "default") return absl::OkStatus();
  if (kind == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
  } else if (kind == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
  } else {
    return Bad("rope_type", absl::StrCat("\"", kind, "\" is not supported; supported are default, linear and llama3"));
  }
  EBB_RETURN_IF_ERROR(Read(rope, "factor", scaling.factor));
  EBB_RETURN_IF_ERROR(Read(rope, "low_freq_factor", scaling.low_frequency_factor));
  EBB_RETURN_IF_ERROR(Read(rope, "high_freq_factor", scaling.high_frequency_factor));
  return Read(rope, "original_max_position_embeddings", scaling.original_context);
}

// Mistral always slides when the number is there; Qwen only where it is switched on and some layer is above
// max_window_layers.
absl::Status ApplySlidingWindow(const Json& json, ModelConfig& config) {
  uint32_t window = 0, first_layer = 0;
  bool used = config.architecture == Architecture::kMistral;
  EBB_RETURN_IF_ERROR(ReadCount(json, "sliding_window", window));
  EBB_RETURN_IF_ERROR(Read(json, "use_sliding_window", used));
  EBB_RETURN_IF_ERROR(ReadCount(json, "max_window_layers", first_layer));
  const bool qwen = config.architecture == Architecture::kQwen2 || config.architecture == Architecture::kQwen3;
  if (qwen && first_layer >= config.layers) used = false;
  if (used && window > 0) config.context = std::min(config.context, window);
  return absl::OkStatus();
}

absl::Status ReadBiases(const Json& json, ModelConfig& config) {
  config.qkv_bias = config.architecture == Architecture::kQwen2;
  config.qk_norm = config.architecture == Architecture::kQwen3;
  bool attention_bias = false;
  EBB_RETURN_IF_ERROR(Read(json, "attention_bias", attention_bias));
  if (attention_bias && config.architecture != Architecture::kQwen2) config.qkv_bias = config.o_bias = true;
  return Read(json, "mlp_bias", config.mlp_bias);
}

}  // namespace

std::string_view Name(Architecture architecture) { return kNames[static_cast<int>(architecture)]; }

absl::StatusOr<Architecture> ParseArchitecture(std::string_view name) {
  for (int i = 0; i < 4; ++i) {
    if (name == kNames[i]) return static_cast<Architecture>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat("the architecture \"", std::string(name.substr(0, 64)),
                                                 "\" is not supported; supported are llama, mistral, qwen2 and qwen3"));
}

absl::Status ModelConfig::Check() const {
  const auto in = [](int64_t value, int64_t low, int64_t high) { return value >= low && value <= high; };
  std::string bad;
  if (!in(layers, 1, 1024)) bad = absl::StrCat("layers (", layers, ") must be in [1, 1024]");
  if (!in(hidden, 1, 1 << 18)) bad = absl::StrCat("hidden size (", hidden, ") must be in [1, 262144]");
  if (!in(feed_forward, 1, 1 << 20)) bad = absl::StrCat("feed-forward size (", feed_forward, ") must be in [1, 1048576]");
  if (!in(query_heads, 1, 4096)) bad = absl::StrCat("query heads (", query_heads, ") must be in [1, 4096]");
  if (!in(kv_heads, 1, query_heads) || (kv_heads > 0 && query_heads % kv_heads != 0)) {
    bad = absl::StrCat("kv heads (", kv_heads, ") must divide the query heads (", query_heads, ")");
  }
  if (!in(head_size, 2, 4096) || head_size % 2 != 0) bad = absl::StrCat("head size (", head_size, ") must be even and in [2, 4096]");
  if (!in(vocabulary, 1, 1 << 22)) bad = absl::StrCat("vocabulary (", vocabulary, ") must be in [1, 4194304]");
  if (!in(context, 1, 1 << 24)) bad = absl::StrCat("context (", context, ") must be in [1, 16777216]");
  if (!(rms_norm_epsilon >= 0 && rms_norm_epsilon < 1)) bad = "the norm's epsilon must be in [0, 1)";
  if (!(rope_theta > 0 && std::isfinite(rope_theta))) bad = "rope theta must be above 0";
  const RopeScaling& s = rope_scaling;
  if (!(s.factor > 0 && s.low_frequency_factor > 0 && s.high_frequency_factor > s.low_frequency_factor && s.original_context > 0)) {
    bad = "rope scaling: factors must be above 0 and high_freq_factor above low_freq_factor";
  }
  if (!rope_factors.empty() && static_cast<int64_t>(rope_factors.size()) != head_size / 2) {
    bad = absl::StrCat("rope factors: ", rope_factors.size(), " for a head size of ", head_size);
  }
  for (base::TokenId id : eos_token_ids) {
    if (id >= vocabulary) bad = absl::StrCat("the EOS id ", id, " is not below the vocabulary of ", vocabulary);
  }
  return bad.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat("the model's config: ", bad));
}

absl::StatusOr<ModelConfig> ParseHuggingFaceConfig(std::string_view config_json, std::string_view generation_json) {
  EBB_ASSIGN_OR_RETURN(const Json json, ParseJson(std::string(config_json), "config.json"));
  if (!json.is_object()) return absl::InvalidArgumentError("config.json: not a JSON object");
  ModelConfig config;
  const auto type = json.find("model_type");
  if (type == json.end() || !type->is_string()) return Bad("model_type", "is missing");
  EBB_ASSIGN_OR_RETURN(config.architecture, ParseArchitecture(type->get<std::string>()));

  EBB_RETURN_IF_ERROR(ReadCount(json, "num_hidden_layers", config.layers));
  EBB_RETURN_IF_ERROR(ReadCount(json, "hidden_size", config.hidden));
  EBB_RETURN_IF_ERROR(ReadCount(json, "intermediate_size", config.feed_forward));
  EBB_RETURN_IF_ERROR(ReadCount(json, "num_attention_heads", config.query_heads));
  config.kv_heads = config.query_heads;
  EBB_RETURN_IF_ERROR(ReadCount(json, "num_key_value_heads", config.kv_heads));
  EBB_RETURN_IF_ERROR(ReadCount(json, "vocab_size", config.vocabulary));
  EBB_RETURN_IF_ERROR(ReadCount(json, "max_position_embeddings", config.context));
  config.head_size = config.query_heads > 0 ? config.hidden / config.query_heads : 0;
  EBB_RETURN_IF_ERROR(ReadCount(json, "head_dim", config.head_size));
  EBB_RETURN_IF_ERROR(Read(json, "rms_norm_eps", config.rms_norm_epsilon));
  EBB_RETURN_IF_ERROR(Read(json, "tie_word_embeddings", config.tied_embeddings));
  EBB_RETURN_IF_ERROR(ReadRope(json, config));
  EBB_RETURN_IF_ERROR(ReadBiases(json, config));
  EBB_RETURN_IF_ERROR(ApplySlidingWindow(json, config));
  const auto activation = json.find("hidden_act");
  if (activation != json.end() && *activation != "silu") return Bad("hidden_act", "must be silu");

  Json generation;
  if (!generation_json.empty()) {
    EBB_ASSIGN_OR_RETURN(generation, ParseJson(std::string(generation_json), "generation_config.json"));
  }
  if (!generation_json.empty() && !generation.is_object()) {
    return absl::InvalidArgumentError("generation_config.json: not a JSON object");
  }
  if (generation.is_object()) EBB_RETURN_IF_ERROR(ReadIds(generation, "eos_token_id", config.eos_token_ids));
  if (config.eos_token_ids.empty()) EBB_RETURN_IF_ERROR(ReadIds(json, "eos_token_id", config.eos_token_ids));
  std::vector<base::TokenId> bos;
  EBB_RETURN_IF_ERROR(ReadIds(json, "bos_token_id", bos));
  if (!bos.empty()) config.bos_token_id = bos.front();
  EBB_RETURN_IF_ERROR(config.Check());
  return config;
}

std::vector<float> RopeInverseFrequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<float> inverse(config.head_size / 2);
  for (size_t i = 0; i < inverse.size(); ++i) {
    double frequency = 1.0 / std::pow(config.rope_theta, 2.0 * static_cast<double>(i) / static_cast<double>(config.head_size));
    if (!config.rope_factors.empty()) {
      frequency /= config.rope_factors[i];
    } else if (scaling.kind == RopeScaling::Kind::kLinear) {
      frequency /= scaling.factor;
    } else if (scaling.kind == RopeScaling::Kind::kLlama3) {
      // Long waves are stretched, short ones kept, those between blended.
      const double turns = scaling.original_context * frequency / (2 * std::numbers::pi);
      const double keep = std::clamp((turns - scaling.low_frequency_factor) /
                                         (scaling.high_frequency_factor - scaling.low_frequency_factor), 0.0, 1.0);
      frequency *= keep + (1 - keep) / scaling.factor;
    }
    inverse[i] = static_cast<float>(frequency);
  }
  return inverse;
}

}  // namespace ebbinghaus::model
