#include "server/model/text_loader.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/unit/model/file_builders.h"

namespace ebbinghaus::model {
namespace {

using Json = nlohmann::json;
using testing::ElementsAre;
using testing::IsSupersetOf;
using testing::UnorderedElementsAre;

// A checkpoint of which only the text side is there.
class TextCheckpoint final : public Checkpoint {
 public:
  ModelConfig& config() { return config_; }
  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer() const override { return source; }
  const std::string& chat_template() const override { return none_; }
  const std::string& bos_token() const override { return none_; }
  const std::string& eos_token() const override { return eos; }

  TokenizerSource source;
  std::string eos;

 private:
  const StoredTensor* Look(const std::string&) const override { return nullptr; }
  ModelConfig config_;
  std::string none_;
};

// Letters, then `more` tokens with their types.
TextCheckpoint Gguf(const std::vector<std::pair<std::string, int32_t>>& more) {
  text::GgufVocabulary v;
  v.model = "gpt2";
  v.pre = "gpt-2";
  for (const char* token : {"a", "b", "<", ">", "/", "s"}) {
    v.tokens.push_back(token);
    v.token_types.push_back(1);
  }
  for (const auto& [token, type] : more) {
    v.tokens.push_back(token);
    v.token_types.push_back(type);
  }
  TextCheckpoint checkpoint;
  checkpoint.config().vocabulary = static_cast<int64_t>(v.tokens.size());
  checkpoint.source = std::move(v);
  return checkpoint;
}

TEST(LoadTextModel, EndsOfAGgufFileAreItsIdsAndTheKnownTextsOfItsVocabulary) {
  TextCheckpoint checkpoint = Gguf({{"<|endoftext|>", 3}, {"<|im_end|>", 1}, {"<|eot_id|>", 4},
                                    {"<end_of_turn>", 3}, {"<|end|>", 3}, {"<|im_start|>", 3}, {"</s>", 1}});
  checkpoint.config().eos_token_ids = {7};
  const auto model = LoadTextModel(checkpoint);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(model->eos_token_ids, UnorderedElementsAre(6, 7, 8, 9, 10));
  EXPECT_EQ(model->eos_token_ids.front(), 7u);  // the file's own first
  EXPECT_FALSE(model->tokenizer->IsSpecial(12));  // HTML
  const TextCheckpoint control = Gguf({{"</s>", 3}});
  EXPECT_THAT(LoadTextModel(control)->eos_token_ids, ElementsAre(6));
}

TEST(LoadTextModel, TheEndOfAMessageWithinATurnDoesNotEndTheText) {
  const TextCheckpoint checkpoint = Gguf({{"<|end|>", 3}, {"<|return|>", 3}, {"<|call|>", 3}});
  EXPECT_THAT(LoadTextModel(checkpoint)->eos_token_ids, UnorderedElementsAre(7, 8));
}

TEST(LoadTextModel, TakesAVocabularyThatIsLargerOrSmallerThanTheEmbedding) {
  TextCheckpoint checkpoint = Gguf({{"<|im_end|>", 3}, {"<tool>", 4}, {"ab", 1}});
  std::get<text::GgufVocabulary>(checkpoint.source).merges = {"a b"};
  for (const int64_t rows : {7, 9, 20}) {
    checkpoint.config().vocabulary = rows;
    std::get<text::GgufVocabulary>(checkpoint.source).max_tokens = static_cast<uint32_t>(rows);
    const auto model = LoadTextModel(checkpoint);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->tokenizer->size(), std::min<int64_t>(rows, 9));
    for (const base::TokenId id : model->EncodeText("<tool>ab<|im_end|>", true)) EXPECT_LT(id, rows);
  }
}

// A copy of a golden model with another tokenizer_config.json.
std::unique_ptr<Checkpoint> OpenWith(const TemporaryFolder& folder, const Json& changes) {
  const std::filesystem::path source = "tests/golden/models/llama";
  for (const auto& entry : std::filesystem::directory_iterator(source)) {
    std::filesystem::copy(entry.path(), folder.Path(entry.path().filename().string()),
                          std::filesystem::copy_options::overwrite_existing);
  }
  std::ifstream file(source / "tokenizer_config.json");
  Json config = Json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
  config.merge_patch(changes);
  folder.Write("tokenizer_config.json", config.dump());
  auto checkpoint = OpenCheckpoint(folder.path());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

TEST(LoadTextModel, EndsOfAFolderAreWhatAllItsFilesSay) {
  const TemporaryFolder folder;
  const auto plain = OpenWith(folder, Json::object());
  ASSERT_NE(plain, nullptr);
  const auto before = LoadTextModel(*plain);
  ASSERT_TRUE(before.ok()) << before.status();
  // A token of the vocabulary that only tokenizer_config.json calls an end.
  base::TokenId other = 0;
  while (before->tokenizer->IsSpecial(other) || before->tokenizer->Piece(other).size() < 2) ++other;
  const auto source = std::get<std::string>(plain->tokenizer());
  const Json definition = Json::parse(source);
  std::string name;
  for (const auto& [token, id] : definition["model"]["vocab"].items()) {
    if (id == other) name = token;
  }
  const auto checkpoint = OpenWith(folder, {{"eos_token", {{"content", name}}}});
  ASSERT_NE(checkpoint, nullptr);
  const auto after = LoadTextModel(*checkpoint);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_THAT(after->eos_token_ids, IsSupersetOf(before->eos_token_ids));
  EXPECT_EQ(after->eos_token_ids.back(), other);
  EXPECT_TRUE(after->tokenizer->IsSpecial(other));
}

TEST(LoadTextModel, AddsTheBosAsTokenizerConfigSays) {
  const TemporaryFolder folder;
  const auto encode = [&](const Json& changes) {
    const auto checkpoint = OpenWith(folder, changes);
    const auto model = LoadTextModel(*checkpoint);
    EXPECT_TRUE(model.ok()) << model.status();
    return model->EncodeText("the curve", true);
  };
  const auto without = encode({{"add_bos_token", false}, {"bos_token", "<s>"}});
  const auto with = encode({{"add_bos_token", true}, {"bos_token", "<s>"}});
  ASSERT_EQ(with.size(), without.size() + 1);
  EXPECT_EQ(std::vector<base::TokenId>(with.begin() + 1, with.end()), without);
  const auto both = encode({{"add_bos_token", true}, {"add_eos_token", true},
                            {"bos_token", "<s>"}, {"eos_token", "</s>"}});
  EXPECT_EQ(both.size(), with.size() + 1);
}

}  // namespace
}  // namespace ebbinghaus::model
