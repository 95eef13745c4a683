// The evicting engine against an independent masked reimplementation of memory-spec.md (tests/golden/memory): the same
// events, live sets, strengths, resets and logits (I8), whatever the prompt's chunks (I21).
#include <algorithm>
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

void ExpectWeights(const engine::Sequence& sequence, const json& layers) {
  const std::vector<base::TokenWeights> weights = sequence.Weights();
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

}  // namespace
}  // namespace ebbinghaus::golden
