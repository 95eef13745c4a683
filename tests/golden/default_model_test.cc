// The real default model: what the reference library says of a prompt and of a passage (tests/golden/default_model).
// EBBINGHAUS_DEFAULT_MODEL names the file; scripts/test.sh fetches it and sets this.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/engine/engine.h"
#include "server/engine/sampler.h"
#include "server/model/text_loader.h"
#include "server/text/text_stream.h"
#include "tests/golden/fixtures.h"

namespace ebbinghaus::golden {
namespace {

class DefaultModel : public testing::Test {
 protected:
  void SetUp() override {
    const char* path = std::getenv("EBBINGHAUS_DEFAULT_MODEL");
    if (path == nullptr) {
      if (std::getenv("CI") != nullptr) FAIL() << "EBBINGHAUS_DEFAULT_MODEL is not set; scripts/test.sh sets it";
      GTEST_SKIP() << "EBBINGHAUS_DEFAULT_MODEL is not set; scripts/fetch-model.sh prints the path";
    }
    checkpoint = model::OpenCheckpoint(path).value();
    text = model::LoadTextModel(*checkpoint).value();
    expected = ReadJson("tests/golden/default_model/expected.json");
  }

  std::unique_ptr<model::Checkpoint> checkpoint;
  text::TextModel text;
  nlohmann::json expected;
};

TEST_F(DefaultModel, ThePromptOfAChatIsTheReferences) {
  const auto& message = expected["chat"]["messages"][0];
  const std::vector<text::ChatMessage> messages = {{message["role"], message["content"]}};
  EXPECT_EQ(text.chat_template->Render(messages, true, 0).value(), expected["chat"]["rendered"].get<std::string>());
  EXPECT_EQ(text.EncodeChat({.messages = messages}, false).value(), expected["chat"]["prompt_ids"].get<std::vector<base::TokenId>>());
}

// The one text every mode must begin with: nothing fades within so few tokens, and baseline is the reference's text.
TEST_F(DefaultModel, GreedyOutputIsTheReferencesInEveryMode) {
  for (const char* name : {"reference", "packed"}) {
  SCOPED_TRACE(name);
  engine::EngineOptions options;
  options.engine = name;
  options.weights = options.kv = "f32";
  options.device = "cpu";
  options.threads = 2;
  auto engine = engine::MakeEngine(*checkpoint, options).value();
  const auto want = expected["chat"]["greedy_ids"].get<std::vector<base::TokenId>>();
  for (base::GenerationMode mode : base::kAllModes) {
    base::SequenceSpec spec;
    spec.prompt = expected["chat"]["prompt_ids"].get<std::vector<base::TokenId>>();
    spec.mode = mode;
    spec.sampling.temperature = 0;
    spec.max_new_tokens = static_cast<uint32_t>(want.size());
    const base::SequenceId id = engine->Add(spec).value();
    std::vector<base::TokenId> ids;
    text::TextStream stream(text.tokenizer, {});
    std::string words;
    for (uint32_t prompt = static_cast<uint32_t>(spec.prompt.size()); ids.size() < want.size(); prompt = 0) {
      const base::StepOutcome outcome = engine->Step({{id, prompt}}).front();
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      ids.push_back(outcome.token->id);
      words += stream.Add(outcome.token->id);
    }
    words += stream.Finish();
    EXPECT_EQ(ids, want) << base::Name(mode);
    EXPECT_EQ(words.rfind("Hermann Ebbinghaus was a German cognitive psychologist who made groundbreaking contributions to "
                          "cognitive science.", 0), 0u) << words;
    engine->Remove(id);
  }
  EXPECT_EQ(engine->kv_used_bytes(), 0u);
  }
}

// Logits of every row of the passage, in one pass: [rows, V].
std::vector<float> PassageLogits(model::Decoder& decoder, const std::vector<base::TokenId>& ids) {
  cache::PagePool pool(decoder.page_shape(), 1ull << 30);
  cache::KvCache cache(&pool, decoder.config().layers);
  return Forward(decoder, ids, 0, ids.size(), cache, static_cast<int64_t>(ids.size()));
}

// -ln p of every token after the first: [rows - 1].
std::vector<double> Losses(const std::vector<float>& logits, const std::vector<base::TokenId>& ids) {
  const size_t vocabulary = logits.size() / ids.size();
  std::vector<double> losses;
  for (size_t row = 0; row + 1 < ids.size(); ++row) {
    const auto of_row = absl::MakeConstSpan(logits).subspan(row * vocabulary, vocabulary);
    losses.push_back(-engine::LogProbabilities(of_row)[ids[row + 1]]);
  }
  return losses;
}

struct Statistics {
  double mean = 0, deviation = 0, error_of_mean = 0;
};
Statistics StatisticsOf(const std::vector<double>& values) {
  Statistics statistics;
  const double n = static_cast<double>(values.size());
  for (const double value : values) statistics.mean += value / n;
  for (const double value : values) statistics.deviation += (value - statistics.mean) * (value - statistics.mean) / (n - 1);
  statistics.deviation = std::sqrt(statistics.deviation);
  statistics.error_of_mean = statistics.deviation / std::sqrt(n);
  return statistics;
}

TEST_F(DefaultModel, ThePassageTokenizesAndScoresAsTheReferenceSays) {
  std::ifstream file("tests/golden/default_model/passage.txt");
  std::stringstream passage;
  passage << file.rdbuf();
  const std::vector<base::TokenId> ids = text.EncodeText(passage.str(), false);
  ASSERT_EQ(ids, expected["passage"]["ids"].get<std::vector<base::TokenId>>());

  auto decoder = model::ReferenceDecoder::Load(*checkpoint, {}).value();
  const double mean = StatisticsOf(Losses(PassageLogits(*decoder, ids), ids)).mean;
  EXPECT_NEAR(mean, expected["passage"]["mean_negative_log_likelihood"].get<double>(), 1e-3);
  EXPECT_LT(std::exp(mean), expected["passage"]["perplexity"].get<double>() * 1.002);
}

class PackedDefaultModel : public DefaultModel {
 protected:
  std::vector<float> Logits(model::WeightChoice weights, kernels::KvForm kv,
                            const kernels::KernelTable& kernels = kernels::FastestKernels()) {
    auto decoder =
        model::PackedDecoder::Load(*checkpoint, {.weights = weights, .kv = kv, .kernels = &kernels, .threads = 2}).value();
    return PassageLogits(*decoder, Ids());
  }
  std::vector<float> ReferenceLogits() {
    return PassageLogits(*model::ReferenceDecoder::Load(*checkpoint, {}).value(), Ids());
  }
  std::vector<base::TokenId> Ids() const { return expected["passage"]["ids"].get<std::vector<base::TokenId>>(); }
};

// The passage is short: which way its tokens' roundings fall moves the mean by half a per cent. So what a form costs is
// told token by token: how far one token's loss strays, and the mean within three of its standard errors.
TEST_F(PackedDefaultModel, EachFormCostsAPassagesTokensLittle) {
  using model::WeightChoice;
  struct Form {
    const char* name;
    WeightChoice weights;
    kernels::KvForm kv;
    double mean, deviation;  // at most, in nats per token
  };
  // The file is Q4_1 with a Q8_0 embedding; as it is, activations are rounded to int8 and K/V to bf16.
  const Form forms[] = {{"auto", WeightChoice::kAuto, kernels::KvForm::kBf16, 0.002, 0.15},
                        {"bf16", WeightChoice::kBf16, kernels::KvForm::kBf16, 0.002, 0.06},
                        {"int8", WeightChoice::kInt8, kernels::KvForm::kBf16, 0.005, 0.25},
                        {"int4", WeightChoice::kInt4, kernels::KvForm::kBf16, 0.05, 0.25},
                        {"int8 K/V", WeightChoice::kBf16, kernels::KvForm::kInt8, 0.005, 0.1}};
  const std::vector<double> reference = Losses(ReferenceLogits(), Ids());
  for (const kernels::Target target : kernels::kAllTargets) {
    if (!kernels::Supports(target)) continue;
    const kernels::KernelTable& kernels = *kernels::KernelsFor(target);
    for (const Form& form : forms) {
      // The portable kernels take ten times as long; one form tells whether they are at fault.
      if (target == kernels::Target::kPortable && form.weights != WeightChoice::kAuto) continue;
      std::vector<double> cost = Losses(Logits(form.weights, form.kv, kernels), Ids());
      for (size_t i = 0; i < cost.size(); ++i) cost[i] -= reference[i];
      const Statistics statistics = StatisticsOf(cost);
      std::printf("%s, %s: costs %.4f +- %.4f nats a token, deviation %.4f\n", std::string(kernels.name).c_str(), form.name,
                  statistics.mean, statistics.error_of_mean, statistics.deviation);
      EXPECT_LE(statistics.mean, form.mean + 3 * statistics.error_of_mean) << kernels.name << " " << form.name;
      EXPECT_LE(statistics.deviation, form.deviation) << kernels.name << " " << form.name;
    }
  }
}

TEST_F(PackedDefaultModel, InBf16TheArgmaxIsTheReferencesWhereverItIsClear) {
  const std::vector<base::TokenId> ids = Ids();
  const std::vector<float> reference = ReferenceLogits();
  const std::vector<float> packed = Logits(model::WeightChoice::kBf16, kernels::KvForm::kBf16);
  const size_t vocabulary = reference.size() / ids.size();
  size_t clear = 0;
  for (size_t row = 0; row < ids.size(); ++row) {
    const auto want = reference.begin() + row * vocabulary, got = packed.begin() + row * vocabulary;
    const auto best = std::max_element(want, want + vocabulary);
    float second = -INFINITY;
    for (auto at = want; at != want + vocabulary; ++at) {
      if (at != best) second = std::max(second, *at);
    }
    if (*best - second <= 0.1f) continue;
    ++clear;
    EXPECT_EQ(std::max_element(got, got + vocabulary) - got, best - want) << "row " << row;
  }
  EXPECT_GT(clear, ids.size() / 2);
}

}  // namespace
}  // namespace ebbinghaus::golden
