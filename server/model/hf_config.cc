// config.json and generation_config.json of a Hugging Face folder.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/model/config.h"
#include "server/model/json_fields.h"

namespace ebbinghaus::model {
namespace {

constexpr char kConfig[] = "config.json", kGeneration[] = "generation_config.json";

bool IsQwen(Architecture a) { return a == Architecture::kQwen2 || a == Architecture::kQwen3; }

// `architectures` says which head sits on the decoder, `model_type` which decoder it is.
absl::StatusOr<Architecture> ReadArchitecture(const JsonFields& fields) {
  EBB_ASSIGN_OR_RETURN(const std::optional<std::string> type, fields.Text("model_type"));
  if (!type) return fields.Wrong("model_type", "is missing; supported are llama, mistral, qwen2 and qwen3");
  absl::StatusOr<Architecture> architecture = ParseArchitecture(*type);
  if (!architecture.ok()) return fields.Wrong("model_type:", std::string(architecture.status().message()));
  const Json* classes = fields.Find("architectures");
  if (classes == nullptr) return architecture;
  constexpr const char* kClasses[] = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"};
  const std::string expected = kClasses[static_cast<int>(*architecture)];
  if (!classes->is_array() || std::find(classes->begin(), classes->end(), expected) == classes->end()) {
    return fields.Wrong("architectures", absl::StrCat("does not hold ", expected, ", the one that is supported for model_type ", *type));
  }
  return architecture;
}

absl::Status ReadRope(const JsonFields& fields, ModelConfig& config) {
  ConfigReader top(fields);
  top.Read("rope_theta", config.rope_theta);
  double rotated_part = 1;
  top.Read("partial_rotary_factor", rotated_part);
  EBB_RETURN_IF_ERROR(top.status());
  const char* key = fields.Find("rope_parameters") != nullptr ? "rope_parameters" : "rope_scaling";
  const Json* object = fields.Find(key);
  if (object != nullptr && !object->is_object()) return fields.Wrong(key, "must be an object");
  if (object != nullptr) {
    const JsonFields rope_fields(*object, kConfig, absl::StrCat(key, "."));
    ConfigReader rope(rope_fields);
    RopeScaling& scaling = config.rope_scaling;
    std::string kind = "default";
    rope.Read("type", kind);  // the older name of it
    rope.Read("rope_type", kind);
    rope.Read("rope_theta", config.rope_theta);
    rope.Read("partial_rotary_factor", rotated_part);
    if (kind == "linear") {
      scaling.kind = RopeScaling::Kind::kLinear;
      rope.Require("factor", scaling.factor);
    } else if (kind == "llama3") {
      scaling.kind = RopeScaling::Kind::kLlama3;
      rope.Require("factor", scaling.factor);
      rope.Require("low_freq_factor", scaling.low_frequency_factor);
      rope.Require("high_freq_factor", scaling.high_frequency_factor);
      rope.Require("original_max_position_embeddings", scaling.original_context);
    } else if (kind != "default") {
      rope.Fail(rope_fields.Wrong("rope_type", absl::StrCat("\"", kind.substr(0, 32),
                                                            "\" is not supported; supported are default, linear and llama3")));
    }
    EBB_RETURN_IF_ERROR(rope.status());
  }
  if (rotated_part != 1) return fields.Wrong("partial_rotary_factor", "other than 1 is not supported");
  return absl::OkStatus();
}

// How many layers do not see the whole context. transformers 5 lists each layer's kind; before, Mistral's slid in every layer,
// Qwen's in those from max_window_layers on.
absl::StatusOr<int64_t> CountSlidingLayers(const JsonFields& fields, const ModelConfig& config) {
  if (const Json* types = fields.Find("layer_types")) {
    if (!types->is_array() || types->size() != config.layers) return fields.Wrong("layer_types", "must have one entry per layer");
    for (const Json& type : *types) {
      if (type != "full_attention" && type != "sliding_attention") {
        return fields.Wrong("layer_types", "may hold full_attention and sliding_attention only");
      }
    }
    return std::count(types->begin(), types->end(), "sliding_attention");
  }
  if (!IsQwen(config.architecture)) return config.layers;
  int64_t first = 28;
  ConfigReader reader(fields);
  reader.Read("max_window_layers", first);
  EBB_RETURN_IF_ERROR(reader.status());
  return std::max<int64_t>(0, static_cast<int64_t>(config.layers) - std::max<int64_t>(0, first));
}

absl::Status ApplySlidingWindow(const JsonFields& fields, ModelConfig& config) {
  if (config.architecture == Architecture::kLlama) return absl::OkStatus();
  int64_t window = fields.Contains("sliding_window") ? 0 : 4096;  // null means none, but absent means the default
  bool used = config.architecture == Architecture::kMistral;
  ConfigReader reader(fields);
  reader.Read("sliding_window", window);
  if (IsQwen(config.architecture)) reader.Read("use_sliding_window", used);
  EBB_RETURN_IF_ERROR(reader.status());
  if (!used || window <= 0) return absl::OkStatus();  // 0 and -1 have stood for "none", too
  EBB_ASSIGN_OR_RETURN(const int64_t sliding_layers, CountSlidingLayers(fields, config));
  if (sliding_layers > 0) config.context = CapContext(config.context, window);
  return absl::OkStatus();
}

// Of keys that are absent, by architecture. 0: taken from other values. The sizes that decide about a model's shape have
// defaults too, but a file that lacks one of those is more likely broken than meant.
struct Defaults {
  uint32_t context;
  int64_t kv_heads, head_size;
};
constexpr Defaults kDefaults[] = {{2048, 0, 0}, {131072, 8, 0}, {32768, 32, 0}, {32768, 32, 128}};

absl::Status ReadSizes(const JsonFields& fields, ModelConfig& config) {
  ConfigReader reader(fields);
  const Defaults& defaults = kDefaults[static_cast<int>(config.architecture)];
  reader.Require("num_hidden_layers", config.layers);
  reader.Require("hidden_size", config.hidden);
  reader.Require("intermediate_size", config.feed_forward);
  reader.Require("num_attention_heads", config.query_heads);
  reader.Require("vocab_size", config.vocabulary);
  config.context = defaults.context;
  reader.Read("max_position_embeddings", config.context);
  // null asks for as many as there are query heads, whatever the default.
  const bool own_heads = fields.Contains("num_key_value_heads") || defaults.kv_heads == 0;
  config.kv_heads = own_heads ? config.query_heads : defaults.kv_heads;
  reader.Read("num_key_value_heads", config.kv_heads);
  if (!reader.Read("head_dim", config.head_size) && reader.status().ok()) {
    if (defaults.head_size != 0 && !fields.Contains("head_dim")) {
      config.head_size = defaults.head_size;
    } else if (config.query_heads > 0 && config.hidden % config.query_heads == 0) {
      config.head_size = config.hidden / config.query_heads;
    } else {
      reader.Fail(fields.Wrong("head_dim", "is missing, and num_attention_heads does not divide hidden_size"));
    }
  }
  reader.Read("rms_norm_eps", config.rms_norm_epsilon);
  reader.Read("tie_word_embeddings", config.tied_embeddings);
  return reader.status();
}

absl::Status ReadLayerForm(const JsonFields& fields, ModelConfig& config) {
  ConfigReader reader(fields);
  std::string activation = "silu";
  reader.Read("hidden_act", activation);
  bool attention_bias = false;
  switch (config.architecture) {
    case Architecture::kLlama:
      reader.Read("attention_bias", attention_bias);
      reader.Read("mlp_bias", config.mlp_bias);
      config.qkv_bias = config.o_bias = attention_bias;
      break;
    case Architecture::kMistral:
      break;
    case Architecture::kQwen2:
      config.qkv_bias = true;
      break;
    case Architecture::kQwen3:
      reader.Read("attention_bias", attention_bias);
      config.qkv_bias = config.o_bias = attention_bias;
      config.qk_norm = true;
      break;
  }
  EBB_RETURN_IF_ERROR(reader.status());
  if (activation != "silu") {
    return fields.Wrong("hidden_act", absl::StrCat("\"", activation.substr(0, 32), "\" is not supported; supported is silu"));
  }
  if (fields.Find("quantization_config") != nullptr) {
    return fields.Wrong("quantization_config", "is not supported; quantized weights are read from GGUF files");
  }
  return absl::OkStatus();
}

absl::Status ReadTokens(const JsonFields& fields, const JsonFields& generation, ModelConfig& config) {
  // generation_config.json comes first: it knows the end of a turn where config.json knows only the end of a text.
  for (const JsonFields* source : {&generation, &fields}) {
    EBB_ASSIGN_OR_RETURN(const std::vector<base::TokenId> ids, source->TokenIds("eos_token_id"));
    for (base::TokenId id : ids) {
      auto& all = config.eos_token_ids;
      // An id beyond the vocabulary can never be sampled.
      if (id < config.vocabulary && std::find(all.begin(), all.end(), id) == all.end()) all.push_back(id);
    }
  }
  EBB_ASSIGN_OR_RETURN(const std::vector<base::TokenId> bos, fields.TokenIds("bos_token_id"));
  if (!bos.empty() && bos.front() < config.vocabulary) config.bos_token_id = bos.front();
  return absl::OkStatus();
}

ConfigKeys Keys(const char* rope_object) {
  return {.file = kConfig,
          .layers = "num_hidden_layers",
          .context = "max_position_embeddings (or sliding_window)",
          .hidden = "hidden_size",
          .feed_forward = "intermediate_size",
          .query_heads = "num_attention_heads",
          .kv_heads = "num_key_value_heads",
          .head_size = "head_dim",
          .vocabulary = "vocab_size",
          .rms_norm_epsilon = "rms_norm_eps",
          .rope_theta = "rope_theta",
          .rope_scaling = absl::StrCat(rope_object, "."),
          .rope_factors = "",
          .eos_token_id = "eos_token_id (here or in generation_config.json)",
          .bos_token_id = "bos_token_id"};
}

}  // namespace

absl::StatusOr<ModelConfig> ParseHuggingFaceConfig(std::string_view config_json, std::string_view generation_json) {
  EBB_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(std::string(config_json), kConfig));
  Json generation = Json::object();
  if (!generation_json.empty()) {
    EBB_ASSIGN_OR_RETURN(generation, ParseJsonObject(std::string(generation_json), kGeneration));
  }
  const JsonFields fields(json, kConfig);
  ModelConfig config;
  EBB_ASSIGN_OR_RETURN(config.architecture, ReadArchitecture(fields));
  EBB_RETURN_IF_ERROR(ReadSizes(fields, config));
  EBB_RETURN_IF_ERROR(ReadRope(fields, config));
  EBB_RETURN_IF_ERROR(ReadLayerForm(fields, config));
  EBB_RETURN_IF_ERROR(ApplySlidingWindow(fields, config));
  EBB_RETURN_IF_ERROR(ReadTokens(fields, JsonFields(generation, kGeneration), config));
  EBB_RETURN_IF_ERROR(CheckConfig(config, Keys(json.contains("rope_parameters") ? "rope_parameters" : "rope_scaling")));
  return config;
}

}  // namespace ebbinghaus::model
