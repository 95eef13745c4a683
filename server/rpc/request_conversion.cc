#include "server/rpc/request_conversion.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/generated_enum_reflection.h"
#include "google/protobuf/struct.pb.h"
#include "server/jinja/value.h"

namespace ebbinghaus::rpc {
namespace {

// Adds the violation of an enum number without a name: what is allowed, from the proto itself.
template <typename E>
void AddUnknownEnum(const std::string& field, int number, base::Violations& violations) {
  std::string names;
  const google::protobuf::EnumDescriptor* descriptor = google::protobuf::GetEnumDescriptor<E>();
  for (int i = 0; i < descriptor->value_count(); ++i) {
    absl::StrAppend(&names, i ? ", " : "", descriptor->value(i)->name());
  }
  violations.Add(field, absl::StrCat("unknown number ", number, ", must be one of ", names));
}

// The proto's optional enum field as an optional of ours; UNSPECIFIED is the same as unset.
template <typename E, typename T>
std::optional<T> EnumField(bool is_set, E value, std::initializer_list<std::pair<E, T>> known,
                           const std::string& field, base::Violations& violations) {
  if (!is_set || static_cast<int>(value) == 0) return std::nullopt;
  for (const auto& [number, ours] : known) {
    if (number == value) return ours;
  }
  AddUnknownEnum<E>(field, static_cast<int>(value), violations);
  return std::nullopt;
}

#define EBB_OPTIONAL(message, field) \
  ((message).has_##field() ? std::make_optional((message).field()) : std::nullopt)

std::optional<base::GenerationMode> ModeFromProto(bool is_set, v1::GenerationMode mode,
                                                  base::Violations& violations) {
  return EnumField<v1::GenerationMode, base::GenerationMode>(
      is_set, mode,
      {{v1::GENERATION_MODE_BASELINE, base::GenerationMode::kBaseline},
       {v1::GENERATION_MODE_SOFT_DELETE, base::GenerationMode::kSoftDelete},
       {v1::GENERATION_MODE_SPARSE_ATTENTION, base::GenerationMode::kSparseAttention}},
      "generation_mode", violations);
}

scheduler::SamplingRequest SamplingFromProto(const v1::SamplingParameters& p) {
  scheduler::SamplingRequest sampling;
  sampling.temperature = EBB_OPTIONAL(p, temperature);
  sampling.top_p = EBB_OPTIONAL(p, top_p);
  sampling.top_k = EBB_OPTIONAL(p, top_k);
  sampling.min_p = EBB_OPTIONAL(p, min_p);
  sampling.repetition_penalty = EBB_OPTIONAL(p, repetition_penalty);
  sampling.presence_penalty = EBB_OPTIONAL(p, presence_penalty);
  sampling.frequency_penalty = EBB_OPTIONAL(p, frequency_penalty);
  sampling.seed = EBB_OPTIONAL(p, seed);
  sampling.logit_bias.assign(p.logit_bias().begin(), p.logit_bias().end());
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end());  // a map's order is not fixed
  return sampling;
}

void MemoryEnumsFromProto(const v1::MemoryParameters& p, memory::ParameterOverrides& memory,
                          base::Violations& violations) {
  memory.preset = EnumField<v1::MemoryPreset, memory::Preset>(
      p.has_preset(), p.preset(),
      {{v1::MEMORY_PRESET_ORIGINAL, memory::Preset::kOriginal},
       {v1::MEMORY_PRESET_DEFAULT, memory::Preset::kDefault},
       {v1::MEMORY_PRESET_CHAT, memory::Preset::kChat},
       {v1::MEMORY_PRESET_TIGHT, memory::Preset::kTight}},
      "memory.preset", violations);
  memory.vote_layers = EnumField<v1::VoteLayers, base::VoteLayers>(
      p.has_vote_layers(), p.vote_layers(),
      {{v1::VOTE_LAYERS_ALL, base::VoteLayers::kAll}, {v1::VOTE_LAYERS_FIRST_HALF, base::VoteLayers::kFirstHalf}},
      "memory.vote_layers", violations);
  memory.scope = EnumField<v1::ForgetScope, base::ForgetScope>(
      p.has_scope(), p.scope(),
      {{v1::FORGET_SCOPE_CONSENSUS, base::ForgetScope::kConsensus},
       {v1::FORGET_SCOPE_PER_LAYER, base::ForgetScope::kPerLayer}},
      "memory.scope", violations);
  memory.soft_form = EnumField<v1::SoftForm, base::SoftForm>(
      p.has_soft_form(), p.soft_form(),
      {{v1::SOFT_FORM_LOG_BIAS, base::SoftForm::kLogBias}, {v1::SOFT_FORM_KV_SCALE, base::SoftForm::kKvScale}},
      "memory.soft_form", violations);
  memory.prompt_observation = EnumField<v1::PromptObservation, base::PromptObservation>(
      p.has_prompt_observation(), p.prompt_observation(),
      {{v1::PROMPT_OBSERVATION_LAST, base::PromptObservation::kLast},
       {v1::PROMPT_OBSERVATION_WINDOW, base::PromptObservation::kWindow},
       {v1::PROMPT_OBSERVATION_ALL, base::PromptObservation::kAll}},
      "memory.prompt_observation", violations);
}

memory::ParameterOverrides MemoryFromProto(const v1::MemoryParameters& p, base::Violations& violations) {
  memory::ParameterOverrides memory;
  MemoryEnumsFromProto(p, memory, violations);
  memory.initial_strength = EBB_OPTIONAL(p, initial_strength);
  memory.time_step = EBB_OPTIONAL(p, time_step);
  memory.reset_threshold = EBB_OPTIONAL(p, reset_threshold);
  memory.forget_threshold = EBB_OPTIONAL(p, forget_threshold);
  memory.vote_ratio = EBB_OPTIONAL(p, vote_ratio);
  memory.soft_floor = EBB_OPTIONAL(p, soft_floor);
  memory.soft_ceiling = EBB_OPTIONAL(p, soft_ceiling);
  memory.soft_layer_ratio = EBB_OPTIONAL(p, soft_layer_ratio);
  memory.strength_cap = EBB_OPTIONAL(p, strength_cap);
  memory.sink_tokens = EBB_OPTIONAL(p, sink_tokens);
  memory.recent_tokens = EBB_OPTIONAL(p, recent_tokens);
  memory.min_live_tokens = EBB_OPTIONAL(p, min_live_tokens);
  memory.max_live_tokens = EBB_OPTIONAL(p, max_live_tokens);
  memory.observe_interval = EBB_OPTIONAL(p, observe_interval);
  memory.prompt_ticks = EBB_OPTIONAL(p, prompt_ticks);
  memory.prompt_window_tokens = EBB_OPTIONAL(p, prompt_window_tokens);
  const auto pinned = static_cast<size_t>(p.pinned_size());
  if (pinned > memory::kMaxPinnedRanges) {
    violations.Add("memory.pinned", absl::StrCat("must have at most ", memory::kMaxPinnedRanges,
                                                 " ranges, has ", pinned, "; join those that touch"));
    return memory;
  }
  memory.pinned.reserve(pinned);
  for (int i = 0; i < p.pinned_size(); ++i) {
    // An end left out would silently pin nothing.
    if (!p.pinned(i).has_end()) {
      violations.Add(absl::StrCat("memory.pinned[", i, "].end"), "must be set: positions begin <= p < end");
    } else {
      memory.pinned.push_back({p.pinned(i).begin(), p.pinned(i).end()});
    }
  }
  return memory;
}

base::AttentionRequest AttentionFromProto(const v1::AttentionOptions& p) {
  base::AttentionRequest attention;
  attention.layers.assign(p.layers().begin(), p.layers().end());
  if (p.has_top_k()) attention.top_k = p.top_k();
  if (p.has_every_n_tokens()) attention.every_n_tokens = p.every_n_tokens();
  return attention;
}

// A Struct has no order, so the keys get one: first those that templates were trained to see in a
// certain order, then the alphabet's.
std::vector<std::string> OrderedKeys(const google::protobuf::Struct& p) {
  static constexpr std::string_view kFirst[] = {"id",          "type",       "function",  "name",       "description",
                                                "parameters",  "arguments",  "properties", "required"};
  const auto rank = [](const std::string& key) { return std::find(std::begin(kFirst), std::end(kFirst), key) - std::begin(kFirst); };
  std::vector<std::string> keys;
  for (const auto& [key, value] : p.fields()) keys.push_back(key);
  std::sort(keys.begin(), keys.end(), [&](const std::string& a, const std::string& b) {
    return std::make_pair(rank(a), std::string_view(a)) < std::make_pair(rank(b), std::string_view(b));
  });
  return keys;
}

jinja::Value ValueFromProto(const google::protobuf::Value& p);

// Protobuf's parser bounds the nesting (100 messages), and so this recursion.
jinja::Dict DictFromProto(const google::protobuf::Struct& p) {
  jinja::Dict dict;
  for (const std::string& key : OrderedKeys(p)) {
    dict.Set(jinja::Value(jinja::Text(key, /*from_caller=*/true)), ValueFromProto(p.fields().at(key)));
  }
  return dict;
}

jinja::Value ValueFromProto(const google::protobuf::Value& p) {
  using jinja::Value;
  switch (p.kind_case()) {
    case google::protobuf::Value::kBoolValue: return Value(p.bool_value());
    case google::protobuf::Value::kStringValue: return Value(jinja::Text(p.string_value(), /*from_caller=*/true));
    case google::protobuf::Value::kStructValue: return Value::Of(DictFromProto(p.struct_value()));
    case google::protobuf::Value::kNumberValue: {
      // JSON's 1 is an integer to a template, though a Struct holds doubles only.
      constexpr double kExact = 9007199254740992;  // 2^53
      const double number = p.number_value();
      const bool whole = std::abs(number) <= kExact && std::trunc(number) == number;
      return whole ? Value(static_cast<int64_t>(number)) : Value(number);
    }
    case google::protobuf::Value::kListValue: {
      jinja::List list;
      for (const google::protobuf::Value& item : p.list_value().values()) list.push_back(ValueFromProto(item));
      return Value::Of(std::move(list));
    }
    default: return Value(jinja::None{});
  }
}

}  // namespace

scheduler::ChatInput FromProto(const v1::Chat& p) {
  scheduler::ChatInput chat;
  chat.messages.reserve(static_cast<size_t>(p.messages_size()));
  for (const v1::Message& message : p.messages()) {
    chat.messages.push_back({message.role(), message.content(), DictFromProto(message.fields())});
  }
  for (const google::protobuf::Struct& tool : p.tools()) chat.tools.push_back(jinja::Value::Of(DictFromProto(tool)));
  chat.template_variables = DictFromProto(p.template_variables());
  chat.continue_final_message = p.continue_final_message();
  return chat;
}

scheduler::GenerationRequest FromProto(const v1::GenerateRequest& p, base::Violations& violations) {
  scheduler::GenerationRequest request;
  switch (p.input_case()) {
    case v1::GenerateRequest::kText:
      request.input = p.text();
      break;
    case v1::GenerateRequest::kTokenIds:
      request.input = scheduler::TokenInput(p.token_ids().ids().begin(), p.token_ids().ids().end());
      break;
    case v1::GenerateRequest::kChat:
      request.input = FromProto(p.chat());
      break;
    case v1::GenerateRequest::INPUT_NOT_SET:
      break;
  }
  request.generation_mode = ModeFromProto(p.has_generation_mode(), p.generation_mode(), violations);
  request.sampling = SamplingFromProto(p.sampling());
  request.max_new_tokens = EBB_OPTIONAL(p, max_new_tokens);
  request.min_new_tokens = EBB_OPTIONAL(p, min_new_tokens);
  request.stop.assign(p.stop().begin(), p.stop().end());
  request.stop_token_ids.assign(p.stop_token_ids().begin(), p.stop_token_ids().end());
  request.ignore_eos = p.ignore_eos();
  request.parse_special = p.parse_special();
  request.return_attention_weights = p.return_attention_weights();
  if (p.has_attention()) request.attention = AttentionFromProto(p.attention());
  request.return_token_weights = p.return_token_weights();
  request.return_forget_events = p.return_forget_events();
  request.memory_every_n_tokens = p.memory_every_n_tokens();
  if (p.has_memory()) request.memory = MemoryFromProto(p.memory(), violations);
  request.return_logprobs = p.return_logprobs();
  request.top_logprobs = EBB_OPTIONAL(p, top_logprobs);
  request.request_id = p.request_id();
  return request;
}

v1::GenerationMode ToProto(base::GenerationMode mode) {
  switch (mode) {
    case base::GenerationMode::kBaseline: return v1::GENERATION_MODE_BASELINE;
    case base::GenerationMode::kSoftDelete: return v1::GENERATION_MODE_SOFT_DELETE;
    case base::GenerationMode::kSparseAttention: return v1::GENERATION_MODE_SPARSE_ATTENTION;
  }
  return v1::GENERATION_MODE_UNSPECIFIED;
}

v1::MemoryPreset ToProto(memory::Preset preset) {
  switch (preset) {
    case memory::Preset::kOriginal: return v1::MEMORY_PRESET_ORIGINAL;
    case memory::Preset::kDefault: return v1::MEMORY_PRESET_DEFAULT;
    case memory::Preset::kChat: return v1::MEMORY_PRESET_CHAT;
    case memory::Preset::kTight: return v1::MEMORY_PRESET_TIGHT;
  }
  return v1::MEMORY_PRESET_UNSPECIFIED;
}

}  // namespace ebbinghaus::rpc
