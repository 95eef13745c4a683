// The forms in which checkpoints come into the world: parts, stale or missing indexes, empty tensors, links, split GGUF files.
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/model/checkpoint.h"
#include "server/model/dequantize.h"
#include "server/model/gguf.h"
#include "server/model/safetensors.h"
#include "tests/unit/model/file_builders.h"

namespace ebbinghaus::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::vector<F32Tensor> TinyTensors() {
  std::vector<F32Tensor> tensors;
  for (const TensorRequirement& tensor : RequiredTensors(ParseHuggingFaceConfig(TinyConfigJson().dump(), "").value())) {
    tensors.push_back({tensor.name, tensor.shape});
  }
  return tensors;
}

// A folder with a tiny model's texts, and so far no weights.
class Variants : public testing::Test {
 protected:
  Variants() {
    folder_.Write("config.json", TinyConfigJson().dump());
    folder_.Write("tokenizer.json", "{}");
  }

  // Some of the tensors: those whose number in TinyTensors() `part` of `count` takes.
  static std::vector<F32Tensor> Part(uint32_t part, uint32_t count) {
    std::vector<F32Tensor> tensors;
    const std::vector<F32Tensor> all = TinyTensors();
    for (size_t i = part - 1; i < all.size(); i += count) tensors.push_back(all[i]);
    return tensors;
  }
  static std::string ShardName(uint32_t part, uint32_t count) {
    return absl::StrFormat("model-%05d-of-%05d.safetensors", part, count);
  }
  void WriteShards(uint32_t count) {
    for (uint32_t part = 1; part <= count; ++part) folder_.Write(ShardName(part, count), SafetensorsOf(Part(part, count)));
  }
  // An index of `count` shards, which may be on disk or not; `change` is applied to its weight_map.
  void WriteIndex(uint32_t count, const std::function<void(json&)>& change = {}) {
    json map = json::object();
    for (uint32_t part = 1; part <= count; ++part) {
      for (const F32Tensor& tensor : Part(part, count)) map[tensor.name] = ShardName(part, count);
    }
    if (change) change(map);
    folder_.Write("model.safetensors.index.json", json({{"metadata", {{"total_size", 1}}}, {"weight_map", map}}).dump());
  }

  void ExpectLoads() {
    const auto checkpoint = OpenCheckpoint(folder_.path());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  }
  std::string Error() {
    const auto checkpoint = OpenCheckpoint(folder_.path());
    EXPECT_FALSE(checkpoint.ok());
    const std::string message(checkpoint.ok() ? "" : checkpoint.status().message());
    EXPECT_THAT(message, HasSubstr(folder_.path()));
    return message;
  }

  const TemporaryFolder folder_;
};

TEST_F(Variants, ShardsLoadWithAndWithoutAnIndex) {
  WriteShards(3);
  ExpectLoads();
  WriteIndex(3);
  ExpectLoads();
}

TEST_F(Variants, ALoneShardOfOneNeedsNoIndex) {
  WriteShards(1);
  ExpectLoads();
}

TEST_F(Variants, ASingleFileOfAnotherNameLoads) {
  folder_.Write("weights.safetensors", SafetensorsOf(TinyTensors()));
  folder_.Write("adapter_model.safetensors", SafetensorsOf({{"lora", {2, 2}}}));
  ExpectLoads();
}

TEST_F(Variants, ATensorThatTheIndexDoesNotNameIsTaken) {
  WriteShards(2);
  WriteIndex(2, [](json& map) { map.erase("model.norm.weight"); });
  ExpectLoads();
  folder_.Write(ShardName(2, 2), SafetensorsOf([] {
                  auto tensors = Part(2, 2);
                  tensors.push_back({"rotary_emb.inv_freq", {4}});  // not needed at all
                  return tensors;
                }()));
  ExpectLoads();
}

TEST_F(Variants, ATensorInAnotherShardThanTheIndexSaysIsFound) {
  WriteShards(2);
  WriteIndex(2, [](json& map) { map["model.norm.weight"] = ShardName(map["model.norm.weight"] == ShardName(1, 2) ? 2 : 1, 2); });
  ExpectLoads();
}

TEST_F(Variants, OfATensorInTwoShardsTheIndexChooses) {
  WriteShards(2);
  auto with_copy = Part(1, 2);
  for (const F32Tensor& tensor : Part(2, 2)) with_copy.insert(with_copy.begin(), tensor);  // other values than in shard 2
  folder_.Write(ShardName(1, 2), SafetensorsOf(with_copy));
  EXPECT_THAT(Error(), AllOf(HasSubstr(ShardName(1, 2)), HasSubstr(ShardName(2, 2)), HasSubstr("model.safetensors.index.json")));
  const TensorRequirement moved{Part(2, 2)[0].name, Part(2, 2)[0].shape};
  const auto first_value = [&] {
    const auto checkpoint = OpenCheckpoint(folder_.path()).value();
    std::vector<float> row(moved.shape.back());
    DequantizeRows(checkpoint->Find(moved.name, moved.shape).value(), 0, 1, row.data());
    return row[0];
  };
  WriteIndex(2);
  const float in_second = first_value();
  WriteIndex(2, [&](json& map) {
    for (const F32Tensor& tensor : Part(2, 2)) map[tensor.name] = ShardName(1, 2);
  });
  EXPECT_NE(first_value(), in_second);
}

TEST_F(Variants, AnIndexOfAnotherNumberOfPartsSaysWhatIsThere) {
  WriteShards(2);
  WriteIndex(4);
  EXPECT_THAT(Error(), AllOf(HasSubstr("4 of the 4 files"), HasSubstr("model-00001-of-00004.safetensors"),
                             HasSubstr("model-00001-of-00002.safetensors"), HasSubstr("delete the index")));
  fs::remove(folder_.Path("model.safetensors.index.json"));
  ExpectLoads();  // what the message advises
}

TEST_F(Variants, AMissingPartIsNamed) {
  WriteShards(3);
  fs::remove(folder_.Path(ShardName(2, 3)));
  EXPECT_THAT(Error(), AllOf(HasSubstr("1 of 3 parts"), HasSubstr(ShardName(2, 3))));
  WriteIndex(3);
  EXPECT_THAT(Error(), AllOf(HasSubstr(ShardName(2, 3)), HasSubstr("is missing"), HasSubstr(ShardName(3, 3))));
}

TEST_F(Variants, AnIndexThatPlacesANeededTensorWhereItIsNotSaysSo) {
  WriteShards(2);
  auto without = Part(1, 2);
  const std::string lost = without.back().name;
  without.pop_back();
  folder_.Write(ShardName(1, 2), SafetensorsOf(without));
  WriteIndex(2);
  EXPECT_THAT(Error(), AllOf(HasSubstr(lost), HasSubstr(ShardName(1, 2))));
}

TEST_F(Variants, AnIndexMayNameTensorsThatNobodyNeeds) {
  WriteShards(2);
  WriteIndex(2, [](json& map) { map["rotary_emb.inv_freq"] = ShardName(1, 2); });
  ExpectLoads();
}

TEST_F(Variants, AFolderWithoutSafetensorsSaysWhatItHoldsAndWhatToDo) {
  folder_.Write("pytorch_model.bin", "PK");
  EXPECT_THAT(Error(), AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("only safetensors are read"), HasSubstr("save_pretrained")));
  folder_.Write("adapter_model.safetensors", SafetensorsOf({{"lora", {2, 2}}}));
  EXPECT_THAT(Error(), AllOf(HasSubstr("adapter_model.safetensors"), HasSubstr("merge adapters")));
  folder_.Write("model.safetensors", SafetensorsOf(TinyTensors()));
  ExpectLoads();  // beside the other two
}

TEST_F(Variants, NamesInAnotherCaseAreShown) {
  folder_.Write("Model.Safetensors", SafetensorsOf(TinyTensors()));
  EXPECT_THAT(Error(), HasSubstr("Model.Safetensors"));
  folder_.Write("model.safetensors", SafetensorsOf(TinyTensors()));
  fs::rename(folder_.Path("tokenizer.json"), folder_.Path("Tokenizer.json"));
  EXPECT_THAT(Error(), AllOf(HasSubstr("tokenizer.json"), HasSubstr("Tokenizer.json")));
}

TEST_F(Variants, LinksAreFollowedAndBrokenOnesNamed) {
  const TemporaryFolder blobs;
  fs::create_symlink(blobs.Write("0123", SafetensorsOf(TinyTensors())), folder_.Path("model.safetensors"));
  ExpectLoads();
  fs::remove(blobs.Path("0123"));
  EXPECT_THAT(Error(), AllOf(HasSubstr("model.safetensors"), HasSubstr("a link to"), HasSubstr("0123")));
  fs::remove(folder_.Path("model.safetensors"));
  WriteIndex(1);
  fs::create_symlink(blobs.Path("4567"), folder_.Path(ShardName(1, 1)));
  EXPECT_THAT(Error(), AllOf(HasSubstr(ShardName(1, 1)), HasSubstr("a link to"), HasSubstr("4567")));
}

TEST_F(Variants, OddFilesInPlaceOfAFileAreErrorsThatNameIt) {
  folder_.Write("model.safetensors", SafetensorsOf(TinyTensors()));
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors", "generation_config.json", "tokenizer_config.json"}) {
    const fs::path path = folder_.Path(name), aside = folder_.Path("aside");
    const bool was_there = fs::exists(path);
    if (was_there) fs::rename(path, aside);
    fs::create_directory(path);
    EXPECT_THAT(Error(), AllOf(HasSubstr(name), HasSubstr("not a regular file")));
    fs::remove(path);
    ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
    EXPECT_THAT(Error(), AllOf(HasSubstr(name), HasSubstr("not a regular file")));
    fs::remove(path);
    folder_.Write(name, "");
    EXPECT_THAT(Error(), AllOf(HasSubstr(name), HasSubstr("empty")));
    fs::remove(path);
    if (was_there) fs::rename(aside, path);
  }
  ExpectLoads();
}

TEST(HubCache, AModelsFolderStandsForItsRevision) {
  const TemporaryFolder cache;
  const fs::path model = cache.Path("models--owner--tiny"), revision = model / "snapshots" / "0123abcd";
  fs::create_directories(revision);
  std::ofstream(revision / "config.json") << TinyConfigJson().dump();
  std::ofstream(revision / "tokenizer.json") << "{}";
  std::ofstream(revision / "model.safetensors", std::ios::binary) << SafetensorsOf(TinyTensors());
  EXPECT_EQ(OpenCheckpoint(model.string()).value()->config().name, "tiny");  // the only one
  fs::create_directories(model / "snapshots" / "4567");
  EXPECT_FALSE(OpenCheckpoint(model.string()).ok());
  fs::create_directories(model / "refs");
  std::ofstream(model / "refs" / "main") << "0123abcd\n";
  EXPECT_EQ(OpenCheckpoint(model.string()).value()->config().name, "tiny");
  std::ofstream(model / "refs" / "main") << "../../elsewhere";
  EXPECT_FALSE(OpenCheckpoint(model.string()).ok());
}

TEST(Safetensors, TensorsWithoutElementsAndWithoutDimensionsAreRead) {
  const std::string file = SafetensorsOf({{"a", {0}}, {"b", {2, 0, 3}}, {"c", {2}}, {"d", {}}, {"e", {0, 5}}});
  const auto tensors = ReadSafetensors(AsBytes(file)).value();
  EXPECT_EQ(tensors.size(), 5u);
  EXPECT_EQ(tensors.at("a").data.size(), 0u);
  EXPECT_EQ(tensors.at("b").shape, (std::vector<int64_t>{2, 0, 3}));
  EXPECT_EQ(tensors.at("c").data.size(), 8u);
  EXPECT_EQ(tensors.at("d").data.size(), 4u);
}

TEST(Safetensors, HostileHeadersAreErrors) {
  const auto entry = [](const std::string& shape, const std::string& offsets) {
    return R"({"a":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::string cases[] = {
      entry("[1]", "[4,0]"),
      entry("[1]", "[0,18446744073709551615]"),
      entry("[1]", "[18446744073709551615,18446744073709551615]"),
      entry("[1099511627777]", "[0,4]"),
      entry("[1099511627776,1099511627776]", "[0,4]"),
      entry("[1099511627776,16777216,4]", "[0,0]"),  // 2^64 values
      entry("[0]", "[0,4]"),
      entry("[1]", "[0,0]"),
      entry("[-1]", "[0,4]"),
      entry("[1.0]", "[0,4]"),
      entry("[1,1,1,1,1,1,1,1,1]", "[0,4]"),
      entry("[1]", "[0]"),
      entry("[1]", "[0,4,4]"),
      entry("[[1]]", "[0,4]"),
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})",
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      std::string(100'000, '['),
      std::string(100'000, '{'),
  };
  for (const std::string& header : cases) {
    EXPECT_FALSE(ListSafetensors(AsBytes(SafetensorsFile(header, "1234"))).ok()) << header.substr(0, 200);
  }
  std::string file = SafetensorsOf({{"a", {2}}});
  for (size_t length = 0; length < file.size(); ++length) EXPECT_FALSE(ListSafetensors(AsBytes(file.substr(0, length))).ok()) << length;
  EXPECT_FALSE(ListSafetensors(AsBytes(file + "x")).ok()) << "bytes that belong to no tensor";
}

TEST(Gguf, TensorsWithoutElementsAndWithoutDimensionsAreRead) {
  const std::string value(4, '\0');
  const std::string file = GgufBuilder()
                               .TensorAt("empty", {0, 8}, 0, 0)
                               .TensorAt("also", {3, 0, 5}, 0, 0)
                               .TensorAt("one", {}, 0, 0)
                               .Build() + value;
  const Gguf gguf = ReadGguf(AsBytes(file)).value();
  EXPECT_EQ(gguf.tensors.size(), 3u);
  EXPECT_EQ(gguf.tensors.at("empty").data.size(), 0u);
  EXPECT_EQ(gguf.tensors.at("one").shape, std::vector<int64_t>{1});
  EXPECT_EQ(gguf.tensors.at("one").data.size(), 4u);
}

TEST(Gguf, HostileDirectoriesAreErrors) {
  const uint64_t huge = uint64_t{1} << 40;
  const auto build = [](const std::function<void(GgufBuilder&)>& fill) {
    GgufBuilder builder;
    fill(builder);
    return builder.Build() + std::string(64, '\0');
  };
  const std::string cases[] = {
      build([&](GgufBuilder& b) { b.TensorAt("a", {huge, huge}, 0, 0); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {huge + 1}, 0, 0); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {UINT64_MAX}, 0, 0); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {1, 1, 1, 1, 1}, 0, 0); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {1}, 0, UINT64_MAX - 31); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {1}, 0, 1); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {16}, 0, 0).TensorAt("b", {8}, 0, 32); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {1}, 0, 0).TensorAt("a", {1}, 0, 32); }),
      build([&](GgufBuilder& b) { b.TensorAt("a", {1}, 999, 0).TensorAt("b", {1}, 999, 0); }),
      build([&](GgufBuilder& b) { b.U32("k", 1).U32("k", 1); }),
      build([&](GgufBuilder& b) { b.U32("general.alignment", 0); }),
      build([&](GgufBuilder& b) { b.U32("general.alignment", 3); }),
      build([&](GgufBuilder& b) { b.U32("general.alignment", 1u << 31); }),
      build([&](GgufBuilder& b) { b.extra_tensors = UINT64_MAX / 2; }),
      build([&](GgufBuilder& b) { b.extra_values = UINT64_MAX / 2; }),
      build([&](GgufBuilder& b) {
        std::string list;
        Append<uint32_t>(list, kGgufString);
        Append<uint64_t>(list, UINT64_MAX);
        b.Raw("k", kGgufArray, list);
      }),
      build([&](GgufBuilder& b) {
        std::string lists;
        Append<uint32_t>(lists, kGgufArray);
        Append<uint64_t>(lists, 1);
        b.Raw("k", kGgufArray, lists);
      }),
      build([&](GgufBuilder& b) {
        std::string text;
        Append<uint64_t>(text, UINT64_MAX);
        b.Raw("k", kGgufString, text);
      }),
      build([&](GgufBuilder& b) { b.Raw("k", 13, ""); }),
  };
  for (size_t i = 0; i < std::size(cases); ++i) EXPECT_FALSE(ReadGguf(AsBytes(cases[i])).ok()) << "case " << i;
  const std::string file = GgufBuilder().U32("k", 1).Texts("l", {"a", "b"}).Tensor("a", {2}, 0, std::string(8, '\1')).Build();
  for (size_t length = 0; length < file.size(); ++length) EXPECT_FALSE(ReadGguf(AsBytes(file.substr(0, length))).ok()) << length;
}

// The tiny Llama as GGUF files of `count` parts; `change` may add to a part's builder or hand back another name for it.
class SplitGguf : public testing::Test {
 protected:
  struct Claims {
    int number = -1, count = -1, tensors = -1;  // instead of the right ones, where set
  };
  static std::string Name(uint32_t part, uint32_t count) { return absl::StrFormat("tiny-%05d-of-%05d.gguf", part, count); }

  void WriteParts(uint32_t count, const std::map<uint32_t, Claims>& claims = {}) {
    const std::vector<F32Tensor> all = Tensors();
    for (uint32_t part = 1; part <= count; ++part) {
      const Claims claim = claims.count(part) ? claims.at(part) : Claims{};
      GgufBuilder builder;
      if (part == 1) AddMetadata(builder);
      if (count > 1) {
        builder.Number<uint16_t>("split.no", kGgufU16, claim.number >= 0 ? claim.number : part - 1);
        builder.Number<uint16_t>("split.count", kGgufU16, claim.count >= 0 ? claim.count : count);
        builder.Number<int32_t>("split.tensors.count", kGgufI32, claim.tensors >= 0 ? claim.tensors : all.size());
      }
      for (size_t i = part - 1; i < all.size(); i += count) {
        int64_t values = 1;
        for (const int64_t extent : all[i].shape) values *= extent;
        builder.Tensor(all[i].name, all[i].shape, 0, std::string(values * 4, '\0'));
      }
      folder_.Write(count > 1 ? Name(part, count) : "tiny.gguf", builder.Build());
    }
  }
  std::string Error(const std::string& name) {
    const auto checkpoint = OpenCheckpoint(folder_.Path(name));
    EXPECT_FALSE(checkpoint.ok());
    return std::string(checkpoint.ok() ? "" : checkpoint.status().message());
  }

  const TemporaryFolder folder_;

 private:
  static std::vector<F32Tensor> Tensors() {
    return {{"token_embd.weight", {10, 8}},     {"output_norm.weight", {8}},        {"blk.0.attn_norm.weight", {8}},
            {"blk.0.ffn_norm.weight", {8}},     {"blk.0.attn_q.weight", {8, 8}},    {"blk.0.attn_k.weight", {4, 8}},
            {"blk.0.attn_v.weight", {4, 8}},    {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_gate.weight", {12, 8}},
            {"blk.0.ffn_up.weight", {12, 8}},   {"blk.0.ffn_down.weight", {8, 12}}};
  }
  static void AddMetadata(GgufBuilder& builder) {
    builder.Text("general.architecture", "llama")
        .U32("llama.block_count", 1)
        .U32("llama.context_length", 64)
        .U32("llama.embedding_length", 8)
        .U32("llama.feed_forward_length", 12)
        .U32("llama.attention.head_count", 2)
        .U32("llama.attention.head_count_kv", 1)
        .F32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
        .Text("tokenizer.ggml.model", "llama")
        .Texts("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "a", "b", "c", "d", "e", "f", "g"});
  }
};

TEST_F(SplitGguf, AnyPartOrTheFolderOpensTheWhole) {
  WriteParts(3);
  for (const std::string& path : {folder_.Path(Name(1, 3)), folder_.Path(Name(2, 3)), folder_.Path(Name(3, 3)), folder_.path()}) {
    const auto checkpoint = OpenCheckpoint(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ((*checkpoint)->config().name, "tiny");
    EXPECT_TRUE((*checkpoint)->Find("model.layers.0.mlp.down_proj.weight", {8, 12}).ok());
  }
}

TEST_F(SplitGguf, AFileThatIsTheOnlyPartNeedsNoOther) {
  WriteParts(1);
  EXPECT_TRUE(OpenCheckpoint(folder_.Path("tiny.gguf")).ok());
  EXPECT_TRUE(OpenCheckpoint(folder_.path()).ok());
}

TEST_F(SplitGguf, AMissingPartIsNamed) {
  WriteParts(3);
  fs::remove(folder_.Path(Name(2, 3)));
  EXPECT_THAT(Error(Name(1, 3)), AllOf(HasSubstr(Name(2, 3)), HasSubstr("part 2 of 3 is missing")));
  EXPECT_THAT(Error(Name(3, 3)), HasSubstr("part 2 of 3 is missing"));
  WriteParts(3);
  fs::remove(folder_.Path(Name(1, 3)));
  EXPECT_THAT(Error(Name(3, 3)), HasSubstr("part 1 of 3 is missing"));
}

TEST_F(SplitGguf, PartsThatContradictTheirNamesAreErrors) {
  WriteParts(2, {{2, {.number = 0}}});
  EXPECT_THAT(Error(Name(1, 2)), AllOf(HasSubstr(Name(2, 2)), HasSubstr("split.no")));
  WriteParts(2, {{2, {.count = 3}}});
  EXPECT_THAT(Error(Name(1, 2)), AllOf(HasSubstr(Name(2, 2)), HasSubstr("split.count")));
  WriteParts(2, {{1, {.tensors = 99}}});
  EXPECT_THAT(Error(Name(1, 2)), AllOf(HasSubstr("split.tensors.count"), HasSubstr("99"), HasSubstr("11")));
  WriteParts(2);
  fs::copy_file(folder_.Path(Name(1, 2)), folder_.Path("renamed.gguf"));
  EXPECT_THAT(Error("renamed.gguf"), AllOf(HasSubstr("split.count"), HasSubstr("NAME-00001-of-00002.gguf")));
}

TEST_F(SplitGguf, ATensorInTwoPartsIsAnError) {
  WriteParts(2);
  GgufBuilder again;
  again.Number<uint16_t>("split.no", kGgufU16, 1).Number<uint16_t>("split.count", kGgufU16, 2);
  again.Tensor("token_embd.weight", {10, 8}, 0, std::string(320, '\0'));
  folder_.Write(Name(2, 2), again.Build());
  EXPECT_THAT(Error(Name(1, 2)), AllOf(HasSubstr("token_embd.weight"), HasSubstr("two parts")));
}

TEST_F(SplitGguf, TwoSetsInAFolderAreNamed) {
  WriteParts(2);
  WriteParts(3);
  EXPECT_THAT(Error(""), AllOf(HasSubstr("2 .gguf files"), HasSubstr(Name(1, 2)), HasSubstr("name one of them")));
}

TEST_F(SplitGguf, AFolderWithAConfigButNoSafetensorsOpensItsGgufFile) {
  WriteParts(1);
  folder_.Write("config.json", "{}");
  EXPECT_TRUE(OpenCheckpoint(folder_.path()).ok());
}

}  // namespace
}  // namespace ebbinghaus::model
