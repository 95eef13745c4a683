// Numbers and marks for "none" as programs of all kinds write them into configurations, and what is taken for absent keys. The
// expected values are those of Hugging Face transformers and llama.cpp, but where a comment says otherwise.
#include <functional>
#include <map>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/model/checkpoint.h"
#include "server/model/config.h"
#include "tests/unit/model/file_builders.h"

namespace ebbinghaus::model {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

// What tables compare.
json Shown(const ModelConfig& c) {
  return {{"layers", c.layers},        {"context", c.context},   {"hidden", c.hidden},
          {"kv_heads", c.kv_heads},    {"head_size", c.head_size}, {"tied", c.tied_embeddings},
          {"theta", c.rope_theta},     {"factor", c.rope_scaling.factor}, {"epsilon", c.rms_norm_epsilon},
          {"eos", c.eos_token_ids},    {"bos", c.bos_token_id ? json(*c.bos_token_id) : json()}};
}

// The tiny config of another architecture; a key of `changes` is set as given, null included, and "ABSENT" removes it.
json Config(const std::string& type, const json& changes) {
  json config = TinyConfigJson();
  config["model_type"] = type;
  config["num_attention_heads"] = 64;  // so that every architecture's default of kv heads fits
  config["hidden_size"] = 512;
  for (const auto& [key, value] : changes.items()) {
    if (value == "ABSENT") {
      config.erase(key);
    } else {
      config[key] = value;
    }
  }
  return config;
}

struct Case {
  const char* type;
  const char* changes;
  const char* expected;  // some of Shown's keys
  const char* generation = "";
};

TEST(HuggingFaceConfig, IsReadAsTheReferenceLibraryReadsIt) {
  const Case cases[] = {
      // As many as query heads for null; the class's own default where the key is absent.
      {"llama", R"({"num_key_value_heads": "ABSENT"})", R"({"kv_heads": 64})"},
      {"llama", R"({"num_key_value_heads": null})", R"({"kv_heads": 64})"},
      {"mistral", R"({"num_key_value_heads": "ABSENT"})", R"({"kv_heads": 8})"},
      {"mistral", R"({"num_key_value_heads": null})", R"({"kv_heads": 64})"},
      {"qwen2", R"({"num_key_value_heads": "ABSENT"})", R"({"kv_heads": 32})"},
      {"qwen2", R"({"num_key_value_heads": null})", R"({"kv_heads": 64})"},
      {"qwen3", R"({"num_key_value_heads": "ABSENT"})", R"({"kv_heads": 32})"},
      {"qwen3", R"({"num_key_value_heads": 4.0})", R"({"kv_heads": 4})"},
      {"llama", R"({"head_dim": null})", R"({"head_size": 8})"},
      {"llama", R"({"head_dim": 16})", R"({"head_size": 16})"},
      {"qwen2", R"({"head_dim": "ABSENT"})", R"({"head_size": 8})"},
      {"qwen3", R"({"head_dim": "ABSENT"})", R"({"head_size": 128})"},
      {"qwen3", R"({"head_dim": null})", R"({"head_size": 8})"},
      {"llama", R"({"max_position_embeddings": "ABSENT"})", R"({"context": 2048})"},
      {"mistral", R"({"max_position_embeddings": "ABSENT", "sliding_window": null})", R"({"context": 131072})"},
      {"qwen2", R"({"max_position_embeddings": "ABSENT"})", R"({"context": 32768})"},
      {"qwen3", R"({"max_position_embeddings": null})", R"({"context": 32768})"},
      {"llama", R"({"max_position_embeddings": 2048.0, "hidden_size": 5.12e2})", R"({"context": 2048, "hidden": 512})"},
      // Windows: null, 0 and -1 are none; absent is 4096 where windows are used.
      {"mistral", R"({"max_position_embeddings": 8192, "sliding_window": null})", R"({"context": 8192})"},
      {"mistral", R"({"max_position_embeddings": 8192, "sliding_window": 0})", R"({"context": 8192})"},
      {"mistral", R"({"max_position_embeddings": 8192, "sliding_window": -1})", R"({"context": 8192})"},
      {"mistral", R"({"max_position_embeddings": 8192, "sliding_window": 4294967295})", R"({"context": 8192})"},
      {"mistral", R"({"max_position_embeddings": 8192, "sliding_window": 1e3})", R"({"context": 1000})"},
      {"mistral", R"({"max_position_embeddings": 8192})", R"({"context": 4096})"},
      {"qwen2", R"({"max_position_embeddings": 8192})", R"({"context": 8192})"},
      {"qwen2", R"({"max_position_embeddings": 8192, "use_sliding_window": 1, "sliding_window": 16, "max_window_layers": 0})",
       R"({"context": 16})"},
      {"qwen2", R"({"max_position_embeddings": 8192, "use_sliding_window": true, "sliding_window": 0, "max_window_layers": 0})",
       R"({"context": 8192})"},
      {"llama", R"({"max_position_embeddings": 8192, "sliding_window": 16})", R"({"context": 8192})"},
      // Ids: null, -1, ids beyond the vocabulary of 10 and empty lists are none; lists within lists are taken apart.
      {"llama", R"({"eos_token_id": -1})", R"({"eos": []})"},
      {"llama", R"({"eos_token_id": null})", R"({"eos": []})"},
      {"llama", R"({"eos_token_id": []})", R"({"eos": []})"},
      {"llama", R"({"eos_token_id": 2.0})", R"({"eos": [2]})"},
      {"llama", R"({"eos_token_id": [3, -1, 3, 2]})", R"({"eos": [3, 2]})"},
      {"llama", R"({"eos_token_id": [[3], [4, 5]]})", R"({"eos": [3, 4, 5]})"},
      {"llama", R"({"eos_token_id": 4294967295})", R"({"eos": []})"},
      {"llama", R"({"eos_token_id": 18446744073709551615})", nullptr},
      {"llama", R"({"eos_token_id": 10})", R"({"eos": []})"},
      {"llama", R"({"eos_token_id": 9})", R"({"eos": [4, 9]})", R"({"eos_token_id": [4, -1]})"},
      {"llama", R"({"eos_token_id": null})", R"({"eos": [4]})", R"({"eos_token_id": 4})"},
      {"llama", R"({"bos_token_id": -1})", R"({"bos": null})"},
      {"llama", R"({"bos_token_id": null})", R"({"bos": null})"},
      {"llama", R"({"bos_token_id": [7]})", R"({"bos": 7})"},
      {"llama", R"({"bos_token_id": 11})", R"({"bos": null})"},
      // Embeddings are not tied unless the file says so, in any of the architectures.
      {"llama", R"({"tie_word_embeddings": "ABSENT"})", R"({"tied": false})"},
      {"mistral", R"({"tie_word_embeddings": null})", R"({"tied": false})"},
      {"qwen2", R"({"tie_word_embeddings": "ABSENT"})", R"({"tied": false})"},
      {"qwen3", R"({"tie_word_embeddings": 1})", R"({"tied": true})"},
      // Rotation, in the older and the newer keys.
      {"llama", R"({})", R"({"theta": 10000, "factor": 1, "epsilon": 1e-6})"},
      {"llama", R"({"rope_theta": null, "rms_norm_eps": null})", R"({"theta": 10000, "epsilon": 1e-6})"},
      {"llama", R"({"rope_theta": 500000})", R"({"theta": 500000})"},
      {"llama", R"({"rope_scaling": null})", R"({"factor": 1})"},
      {"llama", R"({"rope_scaling": {}})", R"({"factor": 1})"},
      {"llama", R"({"rope_scaling": {"type": null}})", R"({"factor": 1})"},
      {"llama", R"({"rope_scaling": {"type": "linear", "factor": 2}})", R"({"factor": 2})"},
      {"llama", R"({"rope_scaling": {"rope_type": "default", "factor": 2}})", R"({"factor": 1})"},
      {"llama", R"({"rope_parameters": {"rope_type": "linear", "rope_theta": 77, "factor": 4.0}})", R"({"theta": 77, "factor": 4})"},
      {"llama", R"({"rope_parameters": {"rope_theta": 77.0}, "rope_scaling": null})", R"({"theta": 77, "factor": 1})"},
      // Keys that say nothing to us.
      {"llama", R"({"torch_dtype": "float16", "dtype": null, "use_cache": "x", "pretraining_tp": 1})", R"({"layers": 2})"},
      {"llama", R"({"dtype": {"": "bfloat16"}, "torch_dtype": 3})", R"({"layers": 2})"},
  };
  for (const Case& c : cases) {
    const auto config = ParseHuggingFaceConfig(Config(c.type, json::parse(c.changes)).dump(), c.generation);
    if (c.expected == nullptr) {
      EXPECT_FALSE(config.ok()) << c.changes;
      continue;
    }
    ASSERT_TRUE(config.ok()) << c.type << " " << c.changes << ": " << config.status();
    const json shown = Shown(*config), expected = json::parse(c.expected);
    for (const auto& [key, value] : expected.items()) {
      EXPECT_EQ(shown[key], value) << c.type << " " << c.changes << ": " << key;
    }
  }
}

TEST(HuggingFaceConfig, ErrorsNameFileKeyValueAndWhatIsAllowed) {
  const std::pair<const char*, std::vector<const char*>> cases[] = {
      {R"({"hidden_size": "8"})", {"hidden_size", "\"8\"", "a whole number"}},
      {R"({"hidden_size": 8.5})", {"hidden_size", "8.5", "a whole number"}},
      {R"({"hidden_size": 1e300})", {"hidden_size", "1e+300", "a whole number"}},
      {R"({"hidden_size": [8]})", {"hidden_size", "a list", "a whole number"}},
      {R"({"hidden_size": true})", {"hidden_size", "true", "a whole number"}},
      {R"({"hidden_size": "ABSENT"})", {"hidden_size", "is missing"}},
      {R"({"hidden_size": 0})", {"hidden_size", "0", "[1, 262144]"}},
      {R"({"hidden_size": -64})", {"hidden_size", "-64", "[1, 262144]"}},
      {R"({"hidden_size": 1099511627776})", {"hidden_size", "[1, 262144]"}},
      {R"({"num_hidden_layers": 4294967297})", {"num_hidden_layers", "4294967297", "[0, 4294967295]"}},
      {R"({"num_key_value_heads": 0})", {"num_key_value_heads", "0", "[1, 4096]"}},
      {R"({"num_key_value_heads": 3})", {"num_key_value_heads", "3", "does not divide"}},
      {R"({"rms_norm_eps": "1e-5"})", {"rms_norm_eps", "\"1e-5\"", "a number"}},
      {R"({"tie_word_embeddings": "yes"})", {"tie_word_embeddings", "\"yes\"", "true or false"}},
      {R"({"tie_word_embeddings": 2})", {"tie_word_embeddings", "2", "true or false"}},
      {R"({"eos_token_id": "2"})", {"eos_token_id", "\"2\"", "a token id or a list"}},
      {R"({"eos_token_id": {"a": 1}})", {"eos_token_id", "an object", "a token id or a list"}},
      {R"({"eos_token_id": [[[2]]]})", {"eos_token_id", "a list", "a token id or a list"}},
      {R"({"rope_scaling": "linear"})", {"rope_scaling", "must be an object"}},
      {R"({"rope_scaling": {"type": "linear"}})", {"rope_scaling.factor", "is missing"}},
      {R"({"rope_scaling": {"type": "linear", "factor": 0}})", {"rope_scaling.factor", "0", "[1, 1e+06]"}},
      {R"({"rope_theta": 0})", {"rope_theta", "0", "[1, 1e+12]"}},
      {R"({"model_type": "gpt2"})", {"model_type", "gpt2", "llama, mistral, qwen2 and qwen3"}},
      {R"({"hidden_act": 3})", {"hidden_act", "3", "a string"}},
  };
  for (const auto& [changes, parts] : cases) {
    const auto config = ParseHuggingFaceConfig(Config("llama", json::parse(changes)).dump(), "");
    ASSERT_FALSE(config.ok()) << changes;
    const std::string message(config.status().message());
    EXPECT_THAT(message, HasSubstr("config.json"));
    for (const char* part : parts) EXPECT_THAT(message, HasSubstr(part)) << changes;
  }
  EXPECT_THAT(std::string(ParseHuggingFaceConfig(Config("llama", {}).dump(), R"({"eos_token_id": "x"})").status().message()),
              HasSubstr("generation_config.json: eos_token_id"));
}

TEST(HuggingFaceConfig, TextsThatAreNoConfigAreErrors) {
  for (const std::string& text : {std::string(), std::string("null"), std::string("[]"), std::string("{"), std::string("{\"a\": 1e999}"),
                                  std::string("{\"a\": \"\xff\"}"), "{\"a\":" + std::string(100'000, '['),
                                  "{\"a\":" + std::string(33, '[') + std::string(33, ']') + "}"}) {
    EXPECT_THAT(std::string(ParseHuggingFaceConfig(text, "").status().message()), HasSubstr("config.json")) << text.substr(0, 50);
  }
}

// A tiny Llama in one GGUF file; `changes` write a key in another way, or not at all.
using Write = std::function<void(GgufBuilder&, const std::string& key)>;
using Changes = std::map<std::string, Write>;

std::string TinyGguf(Changes changes) {
  const auto number = [](uint32_t value) { return Write([=](GgufBuilder& b, const std::string& key) { b.U32(key, value); }); };
  changes.insert({{"llama.block_count", number(1)},
                  {"llama.context_length", number(64)},
                  {"llama.embedding_length", number(8)},
                  {"llama.feed_forward_length", number(12)},
                  {"llama.attention.head_count", number(2)},
                  {"llama.attention.head_count_kv", number(1)},
                  {"llama.attention.layer_norm_rms_epsilon", [](auto& b, auto& key) { b.F32(key, 0.25f); }},
                  {"general.architecture", [](auto& b, auto& key) { b.Text(key, "llama"); }},
                  {"tokenizer.ggml.model", [](auto& b, auto& key) { b.Text(key, "llama"); }},
                  {"tokenizer.ggml.tokens",
                   [](auto& b, auto& key) { b.Texts(key, {"<unk>", "<s>", "</s>", "a", "b", "c", "d", "e", "f", "g"}); }}});
  GgufBuilder builder;
  for (const auto& [key, write] : changes) write(builder, key);
  // One kv head in two, or as many as there are: k and v follow the head count that a case expects.
  const bool all_heads = changes.count("kv_rows_8") > 0;
  const int64_t kv = all_heads ? 8 : 4;
  const std::pair<const char*, std::vector<int64_t>> tensors[] = {
      {"token_embd.weight", {10, 8}},   {"output_norm.weight", {8}},       {"blk.0.attn_norm.weight", {8}},
      {"blk.0.ffn_norm.weight", {8}},   {"blk.0.attn_q.weight", {8, 8}},   {"blk.0.attn_k.weight", {kv, 8}},
      {"blk.0.attn_v.weight", {kv, 8}}, {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_gate.weight", {12, 8}},
      {"blk.0.ffn_up.weight", {12, 8}}, {"blk.0.ffn_down.weight", {8, 12}}};
  for (const auto& [name, shape] : tensors) {
    builder.Tensor(name, shape, 0, std::string(shape[0] * (shape.size() > 1 ? shape[1] : 1) * 4, '\0'));
  }
  return builder.Build();
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenTiny(const Changes& changes) {
  const TemporaryFolder folder;
  return OpenCheckpoint(folder.Write("tiny.gguf", TinyGguf(changes)));
}

template <typename T>
Write As(uint32_t type, T value) {
  return [=](GgufBuilder& b, const std::string& key) { b.Number(key, type, value); };
}
template <typename T>
Write ListOf(uint32_t type, std::vector<T> values) {
  return [=](GgufBuilder& b, const std::string& key) {
    std::string payload;
    Append<uint32_t>(payload, type);
    Append<uint64_t>(payload, values.size());
    for (const T value : values) Append(payload, value);
    b.Raw(key, kGgufArray, payload);
  };
}
const Write kAbsent = [](GgufBuilder&, const std::string&) {};
const Write kMark = kAbsent;

TEST(GgufConfig, NumbersOfAnyWidthAndKindAreRead) {
  struct Row {
    const char* key;
    Write write;
    const char* expected;
  };
  const Row rows[] = {
      {"llama.rope.freq_base", As<uint32_t>(kGgufU32, 500000), R"({"theta": 500000})"},
      {"llama.rope.freq_base", As<int64_t>(kGgufI64, 500000), R"({"theta": 500000})"},
      {"llama.rope.freq_base", As<double>(kGgufF64, 500000.5), R"({"theta": 500000.5})"},
      {"llama.rope.freq_base", ListOf<float>(kGgufF32, {7, 7}), R"({"theta": 7})"},
      {"llama.rope.freq_base", kAbsent, R"({"theta": 10000})"},
      {"llama.rope.scaling.factor", As<uint8_t>(kGgufU8, 2), R"({"factor": 2})"},
      {"llama.rope.scaling.factor", As<float>(kGgufF32, 0), R"({"factor": 1})"},
      {"llama.context_length", As<uint64_t>(kGgufU64, 64), R"({"context": 64})"},
      {"llama.context_length", As<int32_t>(kGgufI32, 64), R"({"context": 64})"},
      {"llama.context_length", As<float>(kGgufF32, 64), R"({"context": 64})"},
      {"llama.context_length", As<uint16_t>(kGgufU16, 64), R"({"context": 64})"},
      {"llama.feed_forward_length", ListOf<uint32_t>(kGgufU32, {12}), R"({"layers": 1})"},
      {"llama.attention.head_count_kv", ListOf<int32_t>(kGgufI32, {1, 1, 1}), R"({"kv_heads": 1})"},
      {"llama.attention.head_count_kv", As<double>(kGgufF64, 1), R"({"kv_heads": 1})"},
      {"llama.attention.sliding_window", As<uint32_t>(kGgufU32, 0), R"({"context": 64})"},
      {"llama.attention.sliding_window", As<int32_t>(kGgufI32, -1), R"({"context": 64})"},
      {"llama.attention.sliding_window", As<uint32_t>(kGgufU32, UINT32_MAX), R"({"context": 64})"},
      {"llama.attention.sliding_window", As<uint64_t>(kGgufU64, 16), R"({"context": 16})"},
      {"llama.attention.layer_norm_rms_epsilon", As<double>(kGgufF64, 0.5), R"({"epsilon": 0.5})"},
      {"llama.attention.key_length", As<int64_t>(kGgufI64, 4), R"({"head_size": 4})"},
      {"llama.attention.key_length", kAbsent, R"({"head_size": 4})"},
      {"tokenizer.ggml.eos_token_id", As<int32_t>(kGgufI32, 2), R"({"eos": [2]})"},
      {"tokenizer.ggml.eos_token_id", As<uint64_t>(kGgufU64, 2), R"({"eos": [2]})"},
      {"tokenizer.ggml.eos_token_id", As<int32_t>(kGgufI32, -1), R"({"eos": []})"},
      {"tokenizer.ggml.eos_token_id", As<uint32_t>(kGgufU32, UINT32_MAX), R"({"eos": []})"},
      {"tokenizer.ggml.eos_token_id", As<uint32_t>(kGgufU32, 10), R"({"eos": []})"},
      {"tokenizer.ggml.bos_token_id", As<int64_t>(kGgufI64, -1), R"({"bos": null})"},
      {"tokenizer.ggml.bos_token_id", As<uint16_t>(kGgufU16, 1), R"({"bos": 1})"},
      {"tokenizer.ggml.unknown_token_id", As<uint32_t>(kGgufU32, UINT32_MAX), R"({"layers": 1})"},
      {"tokenizer.ggml.add_bos_token", As<uint8_t>(kGgufU8, 1), R"({"layers": 1})"},
      {"tokenizer.ggml.scores", ListOf<int32_t>(kGgufI32, std::vector<int32_t>(10, 0)), R"({"layers": 1})"},
  };
  for (const Row& row : rows) {
    const auto checkpoint = OpenTiny({{row.key, row.write}});
    ASSERT_TRUE(checkpoint.ok()) << row.key << ", expected " << row.expected << ": " << checkpoint.status();
    const json shown = Shown((*checkpoint)->config());
    const json expected = json::parse(row.expected);
    for (const auto& [key, value] : expected.items()) EXPECT_EQ(shown[key], value) << row.key << ": " << key;
  }
  const auto all_heads = OpenTiny({{"llama.attention.head_count_kv", kAbsent}, {"kv_rows_8", kMark}});
  ASSERT_TRUE(all_heads.ok()) << all_heads.status();
  EXPECT_EQ((*all_heads)->config().kv_heads, 2);
}

TEST(GgufConfig, ErrorsNameKeyValueAndWhatIsAllowed) {
  const Write text = [](GgufBuilder& b, const std::string& key) { b.Text(key, "64"); };
  struct Row {
    const char* key;
    Write write;
    std::vector<const char*> parts;
  };
  const Row rows[] = {
      {"llama.context_length", text, {"a string", "a number"}},
      {"llama.context_length", As<float>(kGgufF32, 64.5f), {"64.5", "a whole number"}},
      {"llama.context_length", As<double>(kGgufF64, 1e300), {"1e+300", "a whole number"}},
      {"llama.context_length", As<double>(kGgufF64, std::numeric_limits<double>::quiet_NaN()), {"nan", "a whole number"}},
      {"llama.context_length", As<uint64_t>(kGgufU64, UINT64_MAX), {"18446744073709551615", "below 2^63"}},
      {"llama.context_length", As<int32_t>(kGgufI32, -1), {"is -1", "[0, 4294967295]"}},
      {"llama.context_length", As<uint8_t>(kGgufBool, 1), {"true or false", "a number"}},
      {"llama.context_length", ListOf<uint32_t>(kGgufU32, {}), {"an empty list"}},
      {"llama.context_length", kAbsent, {"is missing"}},
      {"llama.attention.head_count_kv", ListOf<uint32_t>(kGgufU32, {1, 2}), {"different numbers", "1", "2", "not supported"}},
      {"llama.rope.freq_base", text, {"a string", "a number"}},
      {"llama.rope.freq_base", As<float>(kGgufF32, std::numeric_limits<float>::infinity()), {"inf", "[1, 1e+12]"}},
      {"general.architecture", As<uint32_t>(kGgufU32, 1), {"a string"}},
      {"tokenizer.ggml.add_bos_token", As<uint8_t>(kGgufU8, 2), {"true or false"}},
      {"tokenizer.ggml.eos_token_id", text, {"a string", "a number"}},
  };
  for (const Row& row : rows) {
    const auto checkpoint = OpenTiny({{row.key, row.write}});
    ASSERT_FALSE(checkpoint.ok()) << row.key << " " << row.parts[0];
    const std::string message(checkpoint.status().message());
    EXPECT_THAT(message, AllOf(HasSubstr("tiny.gguf"), HasSubstr(row.key)));
    for (const char* part : row.parts) EXPECT_THAT(message, HasSubstr(part)) << row.key;
  }
}

}  // namespace
}  // namespace ebbinghaus::model
