// The evicting engine against an independent masked reimplementation of memory-spec.md (tests/golden/memory): the same
// events, live sets, strengths, resets and logits (I8), whatever the prompt's chunks (I21). And what needs no reference: modes
// in which nothing fades are baseline (I11), and soft modes leave K/V alone (I12).
#include <algorithm>
#include <limits>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "server/engine/sequence.h"
#include "server/memory/parameters.h"
#include "server/rpc/request_conversion.h"
#include "tests/golden/fixtures.h"

namespace ebbinghaus::golden {
namespace {

using nlohmann::json;

constexpr char kCases[] = "tests/golden/memory/cases/";
constexpr char kLogits[] = "tests/golden/memory/logits.safetensors";

// The fixture names parameters as the proto does, so the proto's own reader takes them.
base::SequenceSpec SpecOf(const json& fixture) {
  json request = {{"generation_mode", fixture["generation_mode"]}};
  if (!fixture["memory"].empty()) request["memory"] = fixture["memory"];
  v1::GenerateRequest proto;
  const auto parsed = google::protobuf::util::JsonStringToMessage(request.dump(), &proto);
  EXPECT_TRUE(parsed.ok()) << parsed.ToString();
  base::Violations violations;
  const scheduler::GenerationRequest plain = rpc::FromProto(proto, violations);
  base::SequenceSpec spec;
  spec.mode = *plain.generation_mode;
  spec.memory = memory::Resolve(spec.mode, memory::Preset::kDefault, plain.memory, violations);
  EXPECT_TRUE(violations.empty()) << violations.ToStatus();
  spec.prompt = fixture["prompt_ids"].get<std::vector<base::TokenId>>();
  spec.max_new_tokens = 1000;
  spec.return_token_weights = true;
  return spec;
}

using Event = std::tuple<uint32_t, int, base::Position, base::TokenId, uint32_t>;  // step, layer or -1, position, id, votes

std::vector<Event> ExpectedEvents(const json& fixture) {
  std::vector<Event> events;
  for (const json& e : fixture["expected"]["forget_events"]) {
    const int layer = e.contains("layer") && !e["layer"].is_null() ? e["layer"].get<int>() : -1;
    events.push_back({e["step"], layer, e["position"], e["token_id"], e["votes"]});
  }
  std::sort(events.begin(), events.end());
  return events;
}

float LargestError(const std::vector<float>& actual, const std::vector<float>& expected) {
  float worst = actual.size() == expected.size() ? 0 : INFINITY;
  for (size_t i = 0; i < expected.size() && i < actual.size(); ++i) worst = std::max(worst, std::abs(actual[i] - expected[i]));
  return worst;
}

void ExpectLayers(const engine::Sequence& sequence, const json& layers) {
  for (uint32_t l = 0; l < layers.size(); ++l) {
    const memory::LayerState& state = sequence.state().layer(l);
    std::map<base::Position, base::Slot> slot_of;
    for (base::Slot s = 0; s < state.live(); ++s) slot_of[state.position[s]] = s;
    const auto positions = layers[l]["positions"].get<std::vector<base::Position>>();
    ASSERT_EQ(slot_of.size(), positions.size()) << "layer " << l;
    for (size_t i = 0; i < positions.size(); ++i) {
      ASSERT_EQ(slot_of.count(positions[i]), 1u) << "layer " << l << " position " << positions[i];
      const base::Slot slot = slot_of[positions[i]];
      EXPECT_NEAR(state.strength[slot], layers[l]["strength"][i].get<float>(), 1e-4) << "layer " << l << " slot " << slot;
      EXPECT_EQ(state.last_reset[slot], layers[l]["reset_tick"][i].get<base::Tick>()) << "layer " << l << " slot " << slot;
    }
  }
}

std::vector<base::TokenWeights> AllWeights(const engine::Sequence& sequence) {
  std::vector<base::TokenWeights> weights;
  for (uint32_t l = 0; l < sequence.cache().layers(); ++l) {
    weights.push_back(sequence.TokenWeights(l, 0, std::numeric_limits<base::Position>::max()));
  }
  return weights;
}

void ExpectWeights(const engine::Sequence& sequence, const json& layers) {
  const std::vector<base::TokenWeights> weights = AllWeights(sequence);
  ASSERT_EQ(weights.size(), layers.size());
  for (uint32_t l = 0; l < layers.size(); ++l) {
    const auto positions = layers[l]["positions"].get<std::vector<base::Position>>();
    size_t live = 0;
    for (size_t p = 0; p < weights[l].positions.size(); ++p) live += weights[l].forgotten_step[p] == 0;
    EXPECT_EQ(live, positions.size());
    for (size_t i = 0; i < positions.size(); ++i) {
      EXPECT_NEAR(weights[l].retention[positions[i]], layers[l]["retention"][i].get<float>(), 1e-4);
    }
  }
}

class Memory : public testing::TestWithParam<std::tuple<std::string, Engine>> {};

void ExpectCase(const json& fixture, LoadedModel& model, uint32_t chunk) {
  const Tensors logits(kLogits);
  engine::Sequence sequence(SpecOf(fixture), model.decoder.get(), &model.pool);
  std::vector<base::ForgetEvent> none;
  while (!sequence.prompt_read()) ASSERT_TRUE(sequence.Step(chunk, none).ok());

  const json& expected = fixture["expected"];
  std::map<int, int64_t> logit_row;
  for (const json& step : expected["logit_steps"]) logit_row.emplace(step.get<int>(), logit_row.size());
  std::vector<Event> events;
  const auto fed = fixture["fed_ids"].get<std::vector<base::TokenId>>();
  for (size_t step = 0; step <= fed.size(); ++step) {
    if (step > 0) {
      std::vector<base::ForgetEvent> forgotten;
      sequence.ReplaceLastToken(fed[step - 1]);
      ASSERT_TRUE(sequence.Step(0, forgotten).ok());
      for (const base::ForgetEvent& e : forgotten) {
        events.push_back({e.step, e.layer ? static_cast<int>(*e.layer) : -1, e.position, e.token_id, e.votes});
      }
    }
    if (const auto row = logit_row.find(static_cast<int>(step)); row != logit_row.end()) {
      const auto want = logits.Row(fixture["name"].get<std::string>(), row->second);
      EXPECT_LE(LargestError(sequence.last_logits(), want), 1e-4) << "step " << step;
    }
    if (const auto live = expected["live_tokens_per_layer"].find(std::to_string(step)); live != expected["live_tokens_per_layer"].end()) {
      const base::MemoryStats stats = sequence.Stats();
      for (uint32_t l = 0; l < live->size(); ++l) EXPECT_EQ(stats.layers[l].live_tokens, (*live)[l].get<uint32_t>()) << "step " << step;
    }
  }
  std::sort(events.begin(), events.end());
  EXPECT_EQ(events, ExpectedEvents(fixture));
  if (fixture["generation_mode"] == "GENERATION_MODE_BASELINE") return;
  ExpectLayers(sequence, expected["layers_at_the_end"]);
  ExpectWeights(sequence, expected["layers_at_the_end"]);
}

TEST_P(Memory, EvictingEqualsTheIndependentMaskedRunForEveryChunking) {
  const json fixture = ReadJson(kCases + std::get<0>(GetParam()) + ".json");
  LoadedModel model("tests/golden/models/" + fixture["model"].get<std::string>(), std::get<1>(GetParam()));
  for (uint32_t chunk : {1000, 1, 7}) {
    SCOPED_TRACE(testing::Message() << "prompt in chunks of " << chunk);
    ExpectCase(fixture, model, chunk);
  }
  EXPECT_EQ(model.pool.used_bytes(), 0u);  // I17: every page is back
}

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator(kCases, none)) names.push_back(file.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(EveryCase, Memory,
                         testing::Combine(testing::ValuesIn(CaseNames()), testing::Values(Engine::kReference, Engine::kPacked)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + (std::get<1>(info.param) == Engine::kPacked ? "_packed" : "_reference");
                         });

// ---- without fixtures ----

constexpr const char* kModels[] = {"llama", "llama-gqa", "mistral", "qwen2", "qwen3"};

base::TokenId TokenAt(uint32_t position) { return (position * 37 + position / 7) % 97; }

base::SequenceSpec TeacherForced(const json& mode_and_memory, uint32_t prompt_tokens) {
  json fixture = mode_and_memory;
  fixture["prompt_ids"] = json::array();
  for (uint32_t p = 0; p < prompt_tokens; ++p) fixture["prompt_ids"].push_back(TokenAt(p));
  return SpecOf(fixture);
}

// The logits after the prompt and after each of `steps` tokens fed back.
std::vector<std::vector<float>> ForcedLogits(const json& mode_and_memory, LoadedModel& model, uint32_t prompt_tokens,
                                             uint32_t steps) {
  engine::Sequence sequence(TeacherForced(mode_and_memory, prompt_tokens), model.decoder.get(), &model.pool);
  std::vector<base::ForgetEvent> none;
  EXPECT_TRUE(sequence.Step(prompt_tokens, none).ok());
  std::vector<std::vector<float>> logits = {sequence.last_logits()};
  for (uint32_t step = 1; step <= steps; ++step) {
    std::vector<base::ForgetEvent> forgotten;
    sequence.ReplaceLastToken(TokenAt(prompt_tokens + step - 1));
    EXPECT_TRUE(sequence.Step(0, forgotten).ok());
    EXPECT_TRUE(forgotten.empty());
    logits.push_back(sequence.last_logits());
  }
  return logits;
}

class MemoryInvariants : public testing::TestWithParam<Engine> {};

TEST_P(MemoryInvariants, WhereNothingCanFadeEveryModeGivesTheLogitsOfBaseline) {
  constexpr uint32_t kPrompt = 40, kSteps = 60;
  const json soft = {{"time_step", 0}, {"soft_floor", 1}, {"soft_layer_ratio", 1}, {"prompt_observation", "PROMPT_OBSERVATION_ALL"}};
  json scaled = soft;
  scaled["soft_form"] = "SOFT_FORM_KV_SCALE";
  const json sparse = {{"time_step", 0}, {"prompt_observation", "PROMPT_OBSERVATION_ALL"}};
  json alone = sparse;
  alone["scope"] = "FORGET_SCOPE_PER_LAYER";
  for (const char* name : kModels) {
    LoadedModel model(std::string("tests/golden/models/") + name, GetParam());
    const auto baseline = ForcedLogits({{"generation_mode", "GENERATION_MODE_BASELINE"}, {"memory", json::object()}}, model, kPrompt, kSteps);
    for (const auto& [mode, memory] : {std::pair{"SOFT_DELETE", soft}, {"SOFT_DELETE", scaled}, {"SPARSE_ATTENTION", sparse}, {"SPARSE_ATTENTION", alone}}) {
      SCOPED_TRACE(testing::Message() << name << " " << mode << " " << memory);
      const auto logits = ForcedLogits({{"generation_mode", std::string("GENERATION_MODE_") + mode}, {"memory", memory}}, model, kPrompt, kSteps);
      ASSERT_EQ(logits.size(), baseline.size());
      for (size_t step = 0; step < logits.size(); ++step) EXPECT_LE(LargestError(logits[step], baseline[step]), 1e-5) << "step " << step;
    }
  }
}

// Keys and values of one layer's first `tokens` slots.
std::vector<float> StoredKv(const cache::LayerCache& layer, const cache::PageShape& shape, int64_t tokens) {
  std::vector<float> stored;
  for (int64_t slot = 0; slot < tokens; ++slot) {
    const int64_t page = slot / shape.page_tokens, in_page = slot % shape.page_tokens;
    for (int64_t head = 0; head < shape.kv_heads; ++head) {
      if (shape.packed) {
        std::vector<float> key(shape.head_size), value(shape.head_size);
        kernels::LoadToken(*shape.packed, layer.page_bytes()[page], head, in_page, key.data(), value.data());
        stored.insert(stored.end(), key.begin(), key.end());
        stored.insert(stored.end(), value.begin(), value.end());
        continue;
      }
      for (const at::Tensor& whole : {layer.Keys(page), layer.Values(page)}) {  // [K, slots, D]
        const at::Tensor row = whole[head][in_page].contiguous();
        stored.insert(stored.end(), row.data_ptr<float>(), row.data_ptr<float>() + row.numel());
      }
    }
  }
  return stored;
}

// [L]
std::vector<std::vector<float>> StoredKv(const engine::Sequence& sequence, const LoadedModel& model, int64_t tokens) {
  std::vector<std::vector<float>> layers;
  for (uint32_t l = 0; l < sequence.cache().layers(); ++l) {
    EXPECT_LE(tokens, sequence.cache().layer(l).live());
    layers.push_back(StoredKv(sequence.cache().layer(l), model.pool.shape(), tokens));
  }
  return layers;
}

TEST_P(MemoryInvariants, SoftModesNeverChangeStoredKeysAndValues) {
  constexpr uint32_t kPrompt = 40, kSteps = 40;
  for (const char* name : kModels) {
    LoadedModel model(std::string("tests/golden/models/") + name, GetParam());
    for (const char* form : {"SOFT_FORM_LOG_BIAS", "SOFT_FORM_KV_SCALE"}) {
      SCOPED_TRACE(testing::Message() << name << " " << form);
      // Fades fast, in every layer, and never resets.
      const json memory = {{"soft_form", form}, {"soft_floor", 0.1}, {"soft_layer_ratio", 1}, {"time_step", 1}, {"initial_strength", 2}, {"reset_threshold", 1}};
      engine::Sequence sequence(TeacherForced({{"generation_mode", "GENERATION_MODE_SOFT_DELETE"}, {"memory", memory}}, kPrompt),
                                model.decoder.get(), &model.pool);
      std::vector<base::ForgetEvent> none;
      ASSERT_TRUE(sequence.Step(kPrompt, none).ok());
      const auto of_the_prompt = StoredKv(sequence, model, kPrompt);
      auto before = of_the_prompt;
      for (uint32_t step = 1; step <= kSteps; ++step) {
        std::vector<base::ForgetEvent> forgotten;
        sequence.ReplaceLastToken(TokenAt(kPrompt + step - 1));
        ASSERT_TRUE(sequence.Step(0, forgotten).ok());
        ASSERT_EQ(StoredKv(sequence, model, kPrompt + step - 1), before) << "step " << step;
        before = StoredKv(sequence, model, kPrompt + step);
      }
      EXPECT_EQ(StoredKv(sequence, model, kPrompt), of_the_prompt);
      const std::vector<base::TokenWeights> weights = AllWeights(sequence);
      EXPECT_LT(weights[0].retention[0], 0.01) << "the test is about tokens that have faded";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryEngine, MemoryInvariants, testing::Values(Engine::kReference, Engine::kPacked),
                         [](const auto& info) { return info.param == Engine::kPacked ? "packed" : "reference"; });

}  // namespace
}  // namespace ebbinghaus::golden
