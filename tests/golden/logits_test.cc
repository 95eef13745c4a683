// The forward pass of every architecture and format against the reference library's logits (tests/golden/models).
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "server/cache/kv_cache.h"
#include "tests/golden/fixtures.h"

namespace ebbinghaus::golden {
namespace {

constexpr char kModels[] = "tests/golden/models/";
constexpr float kTolerance = 1e-4f;

struct GoldenModel {
  const char* checkpoint;
  const char* expected;  // whose logits these must be
};
void PrintTo(const GoldenModel& model, std::ostream* out) { *out << model.checkpoint; }

void ExpectNear(const std::vector<float>& logits, int64_t row, const std::vector<float>& expected, const std::string& what) {
  ASSERT_GE(logits.size(), (row + 1) * expected.size());
  const float* actual = logits.data() + row * expected.size();
  float worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const float error = std::abs(actual[i] - expected[i]);
    worst = std::isnan(error) ? INFINITY : std::max(worst, error);
  }
  EXPECT_LE(worst, kTolerance) << what;
}

class Logits : public testing::TestWithParam<std::tuple<GoldenModel, Engine>> {
 protected:
  static const GoldenModel& golden() { return std::get<0>(GetParam()); }
  Logits()
      : model(std::string(kModels) + golden().checkpoint, std::get<1>(GetParam())),
        fixture(ReadJson(std::string(kModels) + "expected/" + golden().expected + ".json")),
        tensors(std::string(kModels) + "expected/" + golden().expected + ".safetensors") {}

  std::vector<float> Forward(const std::vector<base::TokenId>& ids, size_t first, size_t count, cache::KvCache& cache,
                             int64_t rows) {
    return golden::Forward(*model.decoder, ids, first, count, cache, rows);
  }

  LoadedModel model;
  nlohmann::json fixture;
  Tensors tensors;
};

TEST_P(Logits, OfAWholePromptAreTheReferences) {
  for (const auto& [length, ids] : fixture["prompts"].items()) {
    cache::KvCache cache(&model.pool, model.decoder->config().layers);
    const auto prompt = ids.get<std::vector<base::TokenId>>();
    ExpectNear(Forward(prompt, 0, prompt.size(), cache, 1), 0, tensors.Row("prompt_" + length + ".last", 0), length);
  }
}

TEST_P(Logits, OfEveryRowAreTheReferences) {
  const auto prompt = fixture["prompts"]["33"].get<std::vector<base::TokenId>>();
  cache::KvCache cache(&model.pool, model.decoder->config().layers);
  const std::vector<float> logits = Forward(prompt, 0, prompt.size(), cache, static_cast<int64_t>(prompt.size()));
  for (size_t row = 0; row < prompt.size(); ++row) {
    ExpectNear(logits, static_cast<int64_t>(row), tensors.Row("prompt_33.all", static_cast<int64_t>(row)), std::to_string(row));
  }
}

TEST_P(Logits, StepByStepAndInChunksAreThoseOfTheWholePrompt) {
  const auto prompt = fixture["prompts"]["200"].get<std::vector<base::TokenId>>();
  for (size_t chunk : {1, 3, 16, 64}) {
    cache::KvCache cache(&model.pool, model.decoder->config().layers);
    std::vector<float> logits;
    for (size_t first = 0; first < prompt.size(); first += chunk) {
      logits = Forward(prompt, first, std::min(chunk, prompt.size() - first), cache, 1);
    }
    ExpectNear(logits, 0, tensors.Row("prompt_200.last", 0), std::to_string(chunk));
  }
}

TEST_P(Logits, OfAGreedyContinuationAreTheReferences) {
  auto ids = fixture["prompts"]["7"].get<std::vector<base::TokenId>>();
  const auto greedy = fixture["greedy"]["ids"].get<std::vector<base::TokenId>>();
  cache::KvCache cache(&model.pool, model.decoder->config().layers);
  std::vector<float> logits = Forward(ids, 0, ids.size(), cache, 1);
  for (size_t step = 0; step < greedy.size(); ++step) {
    ExpectNear(logits, 0, tensors.Row("greedy.logits", static_cast<int64_t>(step)), std::to_string(step));
    ids.push_back(greedy[step]);
    logits = Forward(ids, ids.size() - 1, 1, cache, 1);
  }
}

constexpr GoldenModel kGoldenModels[] = {{"qwen2", "qwen2"},
                                         {"qwen2-sharded", "qwen2"},
                                         {"qwen2-bf16", "qwen2-bf16"},
                                         {"llama", "llama"},
                                         {"llama-f16", "llama-f16"},
                                         {"llama-gqa", "llama-gqa"},
                                         {"mistral", "mistral"},
                                         {"qwen3", "qwen3"},
                                         {"llama-f32.gguf", "llama"},
                                         {"llama-gqa-q8_0.gguf", "llama-gqa-q8_0.gguf"},
                                         {"qwen2-f16.gguf", "qwen2-f16.gguf"}};

INSTANTIATE_TEST_SUITE_P(EveryCheckpoint, Logits,
                         testing::Combine(testing::ValuesIn(kGoldenModels), testing::Values(Engine::kReference, Engine::kPacked)),
                         [](const auto& info) {
                           std::string name = std::get<0>(info.param).checkpoint;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name + (std::get<1>(info.param) == Engine::kPacked ? "_packed" : "_reference");
                         });

}  // namespace
}  // namespace ebbinghaus::golden
