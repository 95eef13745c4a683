#include "server/model/checkpoint.h"

#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/model/dequantize.h"
#include "tests/unit/model/file_builders.h"

namespace ebbinghaus::model {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kModels[] = "tests/golden/models/";

std::unique_ptr<Checkpoint> Open(const std::string& path) {
  auto checkpoint = OpenCheckpoint(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? *std::move(checkpoint) : nullptr;
}

std::string ErrorOf(const std::string& path) {
  auto checkpoint = OpenCheckpoint(path);
  EXPECT_FALSE(checkpoint.ok()) << path;
  return std::string(checkpoint.status().message());
}

std::vector<float> Values(const Checkpoint& checkpoint, const TensorRequirement& tensor) {
  auto view = checkpoint.Find(tensor.name, tensor.shape);
  EXPECT_TRUE(view.ok()) << view.status();
  if (!view.ok()) return {};
  std::vector<float> values(view->rows() * view->columns());
  DequantizeRows(*view, 0, view->rows(), values.data());
  return values;
}

void ExpectSameModel(const Checkpoint& a, const Checkpoint& b, float tolerance) {
  EXPECT_EQ(a.config().layers, b.config().layers);
  EXPECT_EQ(a.config().context, b.config().context);
  EXPECT_EQ(a.config().hidden, b.config().hidden);
  EXPECT_EQ(a.config().feed_forward, b.config().feed_forward);
  EXPECT_EQ(a.config().query_heads, b.config().query_heads);
  EXPECT_EQ(a.config().kv_heads, b.config().kv_heads);
  EXPECT_EQ(a.config().head_size, b.config().head_size);
  EXPECT_EQ(a.config().vocabulary, b.config().vocabulary);
  EXPECT_EQ(a.config().tied_embeddings, b.config().tied_embeddings);
  EXPECT_EQ(a.config().bos_token_id, b.config().bos_token_id);
  EXPECT_FLOAT_EQ(a.config().rms_norm_epsilon, b.config().rms_norm_epsilon);
  const std::vector<float> first = RopeInverseFrequencies(a.config()), second = RopeInverseFrequencies(b.config());
  ASSERT_EQ(first.size(), second.size());
  for (size_t i = 0; i < first.size(); ++i) EXPECT_NEAR(first[i] / second[i], 1, 1e-6) << "frequency " << i;
  ASSERT_EQ(RequiredTensors(a.config()).size(), RequiredTensors(b.config()).size());
  for (const TensorRequirement& tensor : RequiredTensors(a.config())) {
    const std::vector<float> x = Values(a, tensor), y = Values(b, tensor);
    ASSERT_EQ(x.size(), y.size()) << tensor.name;
    for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], tolerance) << tensor.name << " at " << i;
  }
}

TEST(Checkpoint, ReadsEveryArchitecturesFolder) {
  const std::pair<const char*, Architecture> folders[] = {{"llama", Architecture::kLlama},     {"llama-gqa", Architecture::kLlama},
                                                          {"mistral", Architecture::kMistral}, {"qwen2", Architecture::kQwen2},
                                                          {"qwen3", Architecture::kQwen3}};
  for (const auto& [name, architecture] : folders) {
    const auto checkpoint = Open(std::string(kModels) + name);
    ASSERT_NE(checkpoint, nullptr) << name;
    EXPECT_EQ(checkpoint->config().architecture, architecture);
    EXPECT_EQ(checkpoint->config().name, name);
    EXPECT_EQ(checkpoint->config().qkv_bias, architecture == Architecture::kQwen2);
    EXPECT_EQ(checkpoint->config().qk_norm, architecture == Architecture::kQwen3);
    EXPECT_TRUE(std::holds_alternative<std::string>(checkpoint->tokenizer()));
    EXPECT_FALSE(checkpoint->chat_template().empty());
    for (const TensorRequirement& tensor : RequiredTensors(checkpoint->config())) EXPECT_FALSE(Values(*checkpoint, tensor).empty());
  }
  EXPECT_THAT(Open(std::string(kModels) + "qwen2")->config().eos_token_ids, ElementsAre(317, 315));
  EXPECT_EQ(Open(std::string(kModels) + "mistral")->config().context, 256u) << "the sliding window";
  EXPECT_EQ(Open(std::string(kModels) + "llama")->bos_token(), "<s>");
  EXPECT_EQ(Open(std::string(kModels) + "llama")->eos_token(), "</s>");
  EXPECT_EQ(Open(std::string(kModels) + "qwen2")->bos_token(), "");
}

TEST(Checkpoint, ReadsTheSameWeightsFromGgufAsFromTheFolder) {
  ExpectSameModel(*Open(std::string(kModels) + "llama-f32.gguf"), *Open(std::string(kModels) + "llama"), 0);
  ExpectSameModel(*Open(std::string(kModels) + "llama-gqa-q8_0.gguf"), *Open(std::string(kModels) + "llama-gqa"), 0.02f);
  ExpectSameModel(*Open(std::string(kModels) + "qwen2-f16.gguf"), *Open(std::string(kModels) + "qwen2"), 2e-3f);
}

TEST(Checkpoint, ReadsTheSameWeightsFromShardsAndFromOtherTypes) {
  ExpectSameModel(*Open(std::string(kModels) + "qwen2-sharded"), *Open(std::string(kModels) + "qwen2"), 0);
  ExpectSameModel(*Open(std::string(kModels) + "qwen2-bf16"), *Open(std::string(kModels) + "qwen2"), 0.02f);
  ExpectSameModel(*Open(std::string(kModels) + "llama-f16"), *Open(std::string(kModels) + "llama"), 2e-3f);
}

TEST(Checkpoint, GivesAGgufFilesTextSide) {
  const auto checkpoint = Open(std::string(kModels) + "llama-f32.gguf");
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_EQ(checkpoint->config().name, "llama-f32");
  EXPECT_EQ(checkpoint->bos_token(), "<s>");
  EXPECT_EQ(checkpoint->eos_token(), "</s>");
  EXPECT_EQ(checkpoint->chat_template(), Open(std::string(kModels) + "llama")->chat_template());
  const auto& vocabulary = std::get<text::GgufVocabulary>(checkpoint->tokenizer());
  EXPECT_EQ(vocabulary.model, "llama");
  EXPECT_EQ(vocabulary.tokens.size(), 352u);
  EXPECT_EQ(vocabulary.scores.size(), 352u);
  EXPECT_EQ(vocabulary.token_types[3], 6);
  EXPECT_EQ(vocabulary.unknown_token_id, 0u);
  EXPECT_EQ(vocabulary.add_bos_token, true);
  EXPECT_EQ(vocabulary.add_space_prefix, true);
}

TEST(Checkpoint, FindSaysWhatIsWrong) {
  const auto checkpoint = Open(std::string(kModels) + "llama-gqa-q8_0.gguf");
  ASSERT_NE(checkpoint, nullptr);
  const auto missing = checkpoint->Find("model.layers.7.mlp.up_proj.weight", {64, 64});
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()),
              AllOf(HasSubstr("model.layers.7.mlp.up_proj.weight"), HasSubstr("blk.7.ffn_up.weight"), HasSubstr("[64, 64]")));
  const auto misshapen = checkpoint->Find("model.norm.weight", {65});
  EXPECT_EQ(misshapen.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(misshapen.status().message()), AllOf(HasSubstr("[64]"), HasSubstr("[65]")));
  EXPECT_EQ(checkpoint->Find("rotary", {1}).status().code(), absl::StatusCode::kNotFound);
}

TEST(Checkpoint, LendsTheRawBlocksOfAQuantizedTensor) {
  const auto checkpoint = Open(std::string(kModels) + "llama-gqa-q8_0.gguf");
  ASSERT_NE(checkpoint, nullptr);
  const auto view = checkpoint->Find("model.layers.0.self_attn.k_proj.weight", {32, 64});
  ASSERT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->type, TensorType::kQ8_0);
  EXPECT_TRUE(IsQuantized(view->type));
  EXPECT_EQ(view->row_bytes(), 2 * 34);
  EXPECT_EQ(view->data.size(), 32u * 2 * 34);
  EXPECT_EQ(view->permuted_heads, 2u) << "the kv heads, not the query heads";
}

TEST(Checkpoint, TakesTheEmbeddingForTheHeadWhereTheyAreTied) {
  const auto checkpoint = Open(std::string(kModels) + "qwen2");
  ASSERT_NE(checkpoint, nullptr);
  ASSERT_TRUE(checkpoint->config().tied_embeddings);
  const auto head = checkpoint->Find("lm_head.weight", {320, 64});
  const auto embedding = checkpoint->Find("model.embed_tokens.weight", {320, 64});
  ASSERT_TRUE(head.ok() && embedding.ok()) << head.status();
  EXPECT_EQ(head->data.data(), embedding->data.data());
}

TEST(Checkpoint, SaysWhatItLookedFor) {
  const TemporaryFolder folder;
  EXPECT_THAT(ErrorOf(folder.Path("nothing")), AllOf(HasSubstr("nothing"), HasSubstr("config.json"), HasSubstr(".gguf")));
  EXPECT_THAT(ErrorOf(folder.path()), AllOf(HasSubstr("config.json"), HasSubstr(".gguf")));
  EXPECT_THAT(ErrorOf(folder.Write("weights.bin", "something else")), HasSubstr("GGUF"));
  EXPECT_THAT(ErrorOf(folder.Write("empty.gguf", "")), HasSubstr("empty"));
}

TEST(Checkpoint, OpensAFolderWithOneGgufFileAndRefusesTwo) {
  const TemporaryFolder folder;
  std::filesystem::copy_file(std::string(kModels) + "llama-f32.gguf", folder.Path("one.gguf"));
  const auto checkpoint = Open(folder.path());
  ASSERT_NE(checkpoint, nullptr);
  EXPECT_EQ(checkpoint->config().name, "one");
  std::filesystem::copy_file(std::string(kModels) + "llama-f32.gguf", folder.Path("two.gguf"));
  EXPECT_THAT(ErrorOf(folder.path()), HasSubstr("2 .gguf files"));
}

TEST(Checkpoint, NamesAModelOfTheHubsCacheAfterItAlsoBehindALink) {
  const TemporaryFolder folder;
  const std::filesystem::path snapshot = folder.Path("models--owner--small-llama") + "/snapshots/0123abcd";
  std::filesystem::create_directories(snapshot.parent_path());
  std::filesystem::copy(std::string(kModels) + "llama", snapshot);
  std::filesystem::create_directory_symlink(snapshot, folder.Path("current"));
  std::filesystem::create_directory_symlink(std::filesystem::absolute(std::string(kModels) + "llama"), folder.Path("mine"));
  const std::pair<std::string, const char*> names[] = {{snapshot.string(), "small-llama"},
                                                       {folder.Path("current"), "small-llama"},
                                                       {folder.Path("current/"), "small-llama"},
                                                       {folder.Path("mine"), "mine"}};
  for (const auto& [path, name] : names) {
    const auto checkpoint = Open(path);
    ASSERT_NE(checkpoint, nullptr) << path;
    EXPECT_EQ(checkpoint->config().name, name) << path;
  }
}

TEST(Checkpoint, RefusesAPipeInsteadOfWaitingForIt) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo(folder.Path("pipe.gguf").c_str(), 0600), 0);
  EXPECT_THAT(ErrorOf(folder.Path("pipe.gguf")), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace ebbinghaus::model
