#include "server/rpc/request_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/protobuf/text_format.h"

namespace ebbinghaus::rpc {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

v1::GenerateRequest Parse(const std::string& text) {
  v1::GenerateRequest request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

scheduler::GenerationRequest Convert(const std::string& text) {
  base::Violations violations;
  scheduler::GenerationRequest request = FromProto(Parse(text), violations);
  EXPECT_TRUE(violations.empty()) << violations.ToStatus();
  return request;
}

TEST(RequestConversionTest, AnEmptyRequestLeavesEverythingToTheServer) {
  scheduler::GenerationRequest request = Convert("");
  EXPECT_TRUE(std::holds_alternative<std::monostate>(request.input));
  EXPECT_FALSE(request.generation_mode);
  EXPECT_FALSE(request.sampling.temperature);
  EXPECT_FALSE(request.sampling.seed);
  EXPECT_FALSE(request.max_new_tokens);
  EXPECT_FALSE(request.memory);
  EXPECT_FALSE(request.attention);
  EXPECT_FALSE(request.top_logprobs);
  EXPECT_FALSE(request.ignore_eos);
  EXPECT_THAT(request.request_id, IsEmpty());
}

TEST(RequestConversionTest, ZeroIsNotTheSameAsUnset) {
  scheduler::GenerationRequest request = Convert(
      "text: '' sampling { temperature: 0 top_k: 0 seed: 0 } max_new_tokens: 0 memory { time_step: 0 }");
  EXPECT_EQ(std::get<scheduler::TextInput>(request.input), "");
  EXPECT_EQ(request.sampling.temperature, 0.0);
  EXPECT_EQ(request.sampling.top_k, 0u);
  EXPECT_EQ(request.sampling.seed, 0u);
  EXPECT_EQ(request.max_new_tokens, 0u);
  EXPECT_EQ(request.memory->time_step, 0.0);
  EXPECT_FALSE(request.memory->initial_strength);
}

TEST(RequestConversionTest, EachKindOfInputArrives) {
  EXPECT_EQ(std::get<scheduler::TextInput>(Convert("text: 'a b'").input), "a b");
  EXPECT_THAT(std::get<scheduler::TokenInput>(Convert("token_ids { ids: [3, 1, 3] }").input),
              ElementsAre(3, 1, 3));
  auto chat = std::get<scheduler::ChatInput>(
      Convert("chat { messages { role: 'system' content: 's' } messages { role: 'user' content: 'u' } }").input);
  ASSERT_EQ(chat.messages.size(), 2u);
  EXPECT_EQ(chat.messages[0].role, "system");
  EXPECT_EQ(chat.messages[1].content, "u");
  EXPECT_FALSE(chat.continue_final_message);
}

TEST(RequestConversionTest, FieldsToolsAndVariablesOfAChatArriveAsACallersOwnWords) {
  const auto chat = std::get<scheduler::ChatInput>(Convert(R"(
      chat {
        messages { role: 'tool' fields { fields { key: 'name' value { string_value: 'add' } } } }
        tools { fields { key: 'function' value { struct_value {
                  fields { key: 'zeta' value { number_value: 1.5 } } fields { key: 'name' value { string_value: 'add' } }
                  fields { key: 'many' value { list_value { values { number_value: 2 } values { null_value: NULL_VALUE } } } } } } }
                fields { key: 'type' value { string_value: 'function' } } }
        template_variables { fields { key: 'enable_thinking' value { bool_value: false } } }
        continue_final_message: true })").input);
  EXPECT_TRUE(chat.continue_final_message);
  const jinja::Value* name = chat.messages[0].fields.Find("name");
  ASSERT_NE(name, nullptr);
  EXPECT_EQ(name->text()->bytes(), "add");
  EXPECT_TRUE(name->text()->marked(0));
  ASSERT_EQ(chat.tools.size(), 1u);
  const jinja::Dict& tool = *chat.tools[0].dict();
  EXPECT_EQ(tool.entries()[0].first.text()->bytes(), "type");  // the order that templates were trained with
  const jinja::Dict& function = *tool.Find("function")->dict();
  EXPECT_EQ(function.entries()[0].first.text()->bytes(), "name");
  EXPECT_EQ(function.entries()[1].first.text()->bytes(), "many");
  const jinja::List& many = *function.Find("many")->list();
  EXPECT_NE(many[0].As<int64_t>(), nullptr);  // JSON's 2 is an integer
  EXPECT_TRUE(many[1].none());
  EXPECT_EQ(function.Find("zeta")->real(), 1.5);
  EXPECT_FALSE(chat.template_variables.Find("enable_thinking")->Truth());
}

TEST(RequestConversionTest, SamplingAndOptionsArrive) {
  scheduler::GenerationRequest request = Convert(R"(
      text: 'x' generation_mode: GENERATION_MODE_SOFT_DELETE
      sampling { temperature: 1.5 top_p: 0.5 top_k: 7 min_p: 0.25 repetition_penalty: 1.25 presence_penalty: -1
                 frequency_penalty: 2 seed: 18446744073709551615
                 logit_bias { key: 9 value: 1.5 } logit_bias { key: 2 value: -3 } }
      max_new_tokens: 5 min_new_tokens: 2 stop: ['a', 'b'] stop_token_ids: [4, 5] ignore_eos: true parse_special: true
      return_attention_weights: true attention { layers: [1, 3] top_k: 0 every_n_tokens: 2 }
      return_token_weights: true return_forget_events: true memory_every_n_tokens: 3
      return_logprobs: true top_logprobs: 4 request_id: 'id')");
  EXPECT_EQ(request.generation_mode, base::GenerationMode::kSoftDelete);
  EXPECT_EQ(request.sampling.temperature, 1.5);
  EXPECT_EQ(request.sampling.top_p, 0.5);
  EXPECT_EQ(request.sampling.top_k, 7u);
  EXPECT_EQ(request.sampling.min_p, 0.25);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.25);
  EXPECT_EQ(request.sampling.presence_penalty, -1.0);
  EXPECT_EQ(request.sampling.frequency_penalty, 2.0);
  EXPECT_EQ(request.sampling.seed, UINT64_MAX);
  EXPECT_THAT(request.sampling.logit_bias, ElementsAre(Pair(2u, -3.0), Pair(9u, 1.5)));
  EXPECT_EQ(request.max_new_tokens, 5u);
  EXPECT_EQ(request.min_new_tokens, 2u);
  EXPECT_THAT(request.stop, ElementsAre("a", "b"));
  EXPECT_THAT(request.stop_token_ids, ElementsAre(4u, 5u));
  EXPECT_TRUE(request.ignore_eos && request.parse_special && request.return_attention_weights &&
              request.return_token_weights && request.return_forget_events && request.return_logprobs);
  EXPECT_THAT(request.attention->layers, ElementsAre(1u, 3u));
  EXPECT_EQ(request.attention->top_k, 0u);
  EXPECT_EQ(request.attention->every_n_tokens, 2u);
  EXPECT_EQ(request.memory_every_n_tokens, 3u);
  EXPECT_EQ(request.top_logprobs, 4u);
  EXPECT_EQ(request.request_id, "id");
}

TEST(RequestConversionTest, AttentionOptionsHaveTheirDefaults) {
  base::AttentionRequest attention = *Convert("attention { }").attention;
  EXPECT_EQ(attention.top_k, 32u);
  EXPECT_EQ(attention.every_n_tokens, 1u);
}

TEST(RequestConversionTest, EveryMemoryParameterArrives) {
  memory::ParameterOverrides m = *Convert(R"(memory {
      preset: MEMORY_PRESET_TIGHT initial_strength: 1 time_step: 2 reset_threshold: 3 forget_threshold: 4 vote_ratio: 5
      vote_layers: VOTE_LAYERS_FIRST_HALF scope: FORGET_SCOPE_PER_LAYER soft_floor: 6 soft_ceiling: 7
      soft_layer_ratio: 8 soft_form: SOFT_FORM_KV_SCALE sink_tokens: 9 recent_tokens: 10 min_live_tokens: 11
      max_live_tokens: 12 observe_interval: 13 prompt_ticks: 14 prompt_observation: PROMPT_OBSERVATION_WINDOW
      prompt_window_tokens: 15 strength_cap: 16 pinned { begin: 1 end: 3 } pinned { end: 2 } })").memory;
  EXPECT_EQ(m.preset, memory::Preset::kTight);
  EXPECT_EQ(m.initial_strength, 1.0);
  EXPECT_EQ(m.time_step, 2.0);
  EXPECT_EQ(m.reset_threshold, 3.0);
  EXPECT_EQ(m.forget_threshold, 4.0);
  EXPECT_EQ(m.vote_ratio, 5.0);
  EXPECT_EQ(m.vote_layers, base::VoteLayers::kFirstHalf);
  EXPECT_EQ(m.scope, base::ForgetScope::kPerLayer);
  EXPECT_EQ(m.soft_floor, 6.0);
  EXPECT_EQ(m.soft_ceiling, 7.0);
  EXPECT_EQ(m.soft_layer_ratio, 8.0);
  EXPECT_EQ(m.soft_form, base::SoftForm::kKvScale);
  EXPECT_EQ(m.sink_tokens, 9u);
  EXPECT_EQ(m.recent_tokens, 10u);
  EXPECT_EQ(m.min_live_tokens, 11u);
  EXPECT_EQ(m.max_live_tokens, 12u);
  EXPECT_EQ(m.observe_interval, 13u);
  EXPECT_EQ(m.prompt_ticks, 14u);
  EXPECT_EQ(m.prompt_observation, base::PromptObservation::kWindow);
  EXPECT_EQ(m.prompt_window_tokens, 15u);
  EXPECT_EQ(m.strength_cap, 16.0);
  ASSERT_EQ(m.pinned.size(), 2u);
  EXPECT_EQ(m.pinned[0].begin, 1u);
  EXPECT_EQ(m.pinned[0].end, 3u);
  EXPECT_EQ(m.pinned[1].begin, 0u);
}

TEST(RequestConversionTest, UnspecifiedEnumsAreUnset) {
  scheduler::GenerationRequest request = Convert(
      "generation_mode: GENERATION_MODE_UNSPECIFIED memory { preset: MEMORY_PRESET_UNSPECIFIED scope: "
      "FORGET_SCOPE_UNSPECIFIED }");
  EXPECT_FALSE(request.generation_mode);
  EXPECT_FALSE(request.memory->preset);
  EXPECT_FALSE(request.memory->scope);
}

TEST(RequestConversionTest, UnknownEnumNumbersAreViolationsThatListTheKnownNames) {
  v1::GenerateRequest proto;
  proto.set_generation_mode(static_cast<v1::GenerationMode>(9));
  proto.mutable_memory()->set_preset(static_cast<v1::MemoryPreset>(-1));
  proto.mutable_memory()->set_vote_layers(static_cast<v1::VoteLayers>(7));
  proto.mutable_memory()->set_scope(static_cast<v1::ForgetScope>(7));
  proto.mutable_memory()->set_soft_form(static_cast<v1::SoftForm>(7));
  proto.mutable_memory()->set_prompt_observation(static_cast<v1::PromptObservation>(7));
  base::Violations violations;
  FromProto(proto, violations);
  std::vector<std::string> fields;
  for (const base::Violation& violation : violations.all()) fields.push_back(violation.field);
  EXPECT_THAT(fields, testing::UnorderedElementsAre("generation_mode", "memory.preset", "memory.vote_layers",
                                                    "memory.scope", "memory.soft_form", "memory.prompt_observation"));
  EXPECT_THAT(violations.ToStatus().ToString(), HasSubstr("GENERATION_MODE_SPARSE_ATTENTION"));
}

TEST(RequestConversionTest, TooManyPinnedRangesAreNotCopied) {
  v1::GenerateRequest request;
  for (uint32_t i = 0; i < 100'000; ++i) request.mutable_memory()->add_pinned()->set_begin(i);
  base::Violations violations;
  EXPECT_TRUE(FromProto(request, violations).memory->pinned.empty());
  ASSERT_EQ(violations.all().size(), 1u);
  EXPECT_EQ(violations.all()[0].field, "memory.pinned");
  EXPECT_THAT(violations.all()[0].description, HasSubstr("1024"));
}

TEST(RequestConversionTest, APinnedRangeWithoutAnEndIsAViolation) {
  base::Violations violations;
  FromProto(Parse("memory { pinned { begin: 1 } }"), violations);
  ASSERT_EQ(violations.all().size(), 1u);
  EXPECT_EQ(violations.all()[0].field, "memory.pinned[0].end");
}

}  // namespace
}  // namespace ebbinghaus::rpc
