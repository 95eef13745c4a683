// The real default model: what the reference library says of a prompt and of a passage (tests/golden/default_model).
// EBBINGHAUS_DEFAULT_MODEL names the file; scripts/test.sh fetches it and sets this.
#include <cmath>
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
  EXPECT_EQ(text.EncodeChat(messages, false).value(), expected["chat"]["prompt_ids"].get<std::vector<base::TokenId>>());
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

TEST_F(DefaultModel, ThePassageTokenizesAndScoresAsTheReferenceSays) {
  std::ifstream file("tests/golden/default_model/passage.txt");
  std::stringstream passage;
  passage << file.rdbuf();
  const std::vector<base::TokenId> ids = text.EncodeText(passage.str(), false);
  ASSERT_EQ(ids, expected["passage"]["ids"].get<std::vector<base::TokenId>>());

  auto decoder = model::ReferenceDecoder::Load(*checkpoint, {}).value();
  cache::PagePool pool(decoder->page_shape(), 1ull << 30);
  cache::KvCache cache(&pool, decoder->config().layers);
  const auto rows = static_cast<int64_t>(ids.size());
  const std::vector<float> logits = Forward(*decoder, ids, 0, ids.size(), cache, rows);
  const size_t vocabulary = logits.size() / ids.size();
  double sum = 0;
  for (int64_t row = 0; row + 1 < rows; ++row) {
    const engine::LogProbabilities logprobs(absl::MakeConstSpan(logits).subspan(row * vocabulary, vocabulary));
    sum -= logprobs[ids[row + 1]];
  }
  const double mean = sum / static_cast<double>(rows - 1);
  EXPECT_NEAR(mean, expected["passage"]["mean_negative_log_likelihood"].get<double>(), 1e-3);
  EXPECT_LT(std::exp(mean), expected["passage"]["perplexity"].get<double>() * 1.002);
}

}  // namespace
}  // namespace ebbinghaus::golden
