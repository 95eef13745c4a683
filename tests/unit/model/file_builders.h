// Small checkpoint files made in memory, right or wrong on purpose.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/model/config.h"

namespace ebbinghaus::model {

inline absl::Span<const std::byte> AsBytes(const std::string& text) {
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

template <typename T>
void Append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
inline void AppendString(std::string& out, std::string_view text) {
  Append<uint64_t>(out, text.size());
  out += text;
}

// A folder that is gone when the test is over.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::path(testing::TempDir()) / "checkpoint-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string path() const { return path_.string(); }
  std::string Path(const std::string& name) const { return (path_ / name).string(); }
  std::string Write(const std::string& name, std::string_view content) const {
    std::ofstream(Path(name), std::ios::binary) << content;
    return Path(name);
  }

 private:
  std::filesystem::path path_;
};

// GGUF's numbers of value types and tensor types, as far as tests use them.
enum GgufType : uint32_t { kGgufU8, kGgufI8, kGgufU16, kGgufI16, kGgufU32, kGgufI32, kGgufF32, kGgufBool, kGgufString, kGgufArray,
                           kGgufU64, kGgufI64, kGgufF64 };

class GgufBuilder {
 public:
  GgufBuilder& Raw(const std::string& key, uint32_t type, std::string payload) {
    AppendString(metadata_, key);
    Append(metadata_, type);
    metadata_ += payload;
    ++values_;
    return *this;
  }
  template <typename T>
  GgufBuilder& Number(const std::string& key, uint32_t type, T value) {
    std::string payload;
    Append(payload, value);
    return Raw(key, type, payload);
  }
  GgufBuilder& U32(const std::string& key, uint32_t value) { return Number(key, kGgufU32, value); }
  GgufBuilder& F32(const std::string& key, float value) { return Number(key, kGgufF32, value); }
  GgufBuilder& Text(const std::string& key, std::string_view value) {
    std::string payload;
    AppendString(payload, value);
    return Raw(key, kGgufString, payload);
  }
  GgufBuilder& Texts(const std::string& key, const std::vector<std::string>& values) {
    std::string payload;
    Append<uint32_t>(payload, kGgufString);
    Append<uint64_t>(payload, values.size());
    for (const std::string& value : values) AppendString(payload, value);
    return Raw(key, kGgufArray, payload);
  }
  // `shape` is row-major. The data is placed after that of the tensor before, aligned.
  GgufBuilder& Tensor(const std::string& name, const std::vector<int64_t>& shape, uint32_t type, std::string_view data) {
    data_.resize((data_.size() + alignment - 1) / alignment * alignment);
    TensorAt(name, {shape.begin(), shape.end()}, type, data_.size());
    data_ += data;
    return *this;
  }
  // The directory's entry alone.
  GgufBuilder& TensorAt(const std::string& name, const std::vector<uint64_t>& shape, uint32_t type, uint64_t offset) {
    AppendString(infos_, name);
    Append<uint32_t>(infos_, shape.size());
    for (size_t i = shape.size(); i-- > 0;) Append(infos_, shape[i]);
    Append(infos_, type);
    Append(infos_, offset);
    ++tensors_;
    return *this;
  }
  std::string Build() const {
    std::string file = "GGUF";
    Append(file, version);
    Append<uint64_t>(file, tensors_ + extra_tensors);
    Append<uint64_t>(file, values_ + extra_values);
    file += metadata_ + infos_;
    file.resize((file.size() + alignment - 1) / alignment * alignment);
    return file + data_;
  }

  uint32_t version = 3;
  uint64_t alignment = 32;
  uint64_t extra_tensors = 0, extra_values = 0;  // claimed but not there

 private:
  std::string metadata_, infos_, data_;
  uint64_t values_ = 0, tensors_ = 0;
};

// A safetensors file of any header and data.
inline std::string SafetensorsFile(const std::string& header, const std::string& data) {
  std::string file;
  Append<uint64_t>(file, header.size());
  return file + header + data;
}

struct F32Tensor {
  std::string name;
  std::vector<int64_t> shape;
};

// Tensors of F32 whose values are all different from one another.
inline std::string SafetensorsOf(const std::vector<F32Tensor>& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const F32Tensor& tensor : tensors) {
    int64_t values = 1;
    for (int64_t extent : tensor.shape) values *= extent;
    const size_t begin = data.size();
    for (int64_t i = 0; i < values; ++i) Append(data, static_cast<float>(data.size()) / 64);
    header[tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  return SafetensorsFile(header.dump(), data);
}

// config.json of a tiny Llama; `changes` are merged in, and a null there removes a key.
inline nlohmann::json TinyConfigJson(const nlohmann::json& changes = nlohmann::json::object()) {
  nlohmann::json config = {{"model_type", "llama"},       {"hidden_size", 8},           {"intermediate_size", 12},
                           {"num_hidden_layers", 2},      {"num_attention_heads", 2},   {"num_key_value_heads", 1},
                           {"vocab_size", 10},            {"max_position_embeddings", 64}, {"hidden_act", "silu"},
                           {"tie_word_embeddings", true}, {"eos_token_id", 2},          {"bos_token_id", 1}};
  config.merge_patch(changes);
  return config;
}


}  // namespace ebbinghaus::model
