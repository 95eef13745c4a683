#include "server/model/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/model/checkpoint_internal.h"
#include "server/text/unicode.h"

namespace ebbinghaus::model {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

}  // namespace

std::vector<TensorRequirement> RequiredTensors(const ModelConfig& c) {
  const int64_t q = c.query_heads * c.head_size, kv = c.kv_heads * c.head_size;
  std::vector<TensorRequirement> all = {{"model.embed_tokens.weight", {c.vocabulary, c.hidden}}, {"model.norm.weight", {c.hidden}}};
  if (!c.tied_embeddings) all.push_back({"lm_head.weight", {c.vocabulary, c.hidden}});
  const auto linear = [&](const std::string& name, int64_t out, int64_t in, bool bias) {
    all.push_back({name + ".weight", {out, in}});
    if (bias) all.push_back({name + ".bias", {out}});
  };
  for (uint32_t l = 0; l < c.layers; ++l) {
    const std::string layer = absl::StrCat("model.layers.", l, ".");
    all.push_back({layer + "input_layernorm.weight", {c.hidden}});
    all.push_back({layer + "post_attention_layernorm.weight", {c.hidden}});
    if (c.qk_norm) {
      all.push_back({layer + "self_attn.q_norm.weight", {c.head_size}});
      all.push_back({layer + "self_attn.k_norm.weight", {c.head_size}});
    }
    linear(layer + "self_attn.q_proj", q, c.hidden, c.qkv_bias);
    linear(layer + "self_attn.k_proj", kv, c.hidden, c.qkv_bias);
    linear(layer + "self_attn.v_proj", kv, c.hidden, c.qkv_bias);
    linear(layer + "self_attn.o_proj", c.hidden, q, c.o_bias);
    linear(layer + "mlp.gate_proj", c.feed_forward, c.hidden, c.mlp_bias);
    linear(layer + "mlp.up_proj", c.feed_forward, c.hidden, c.mlp_bias);
    linear(layer + "mlp.down_proj", c.hidden, c.feed_forward, c.mlp_bias);
  }
  return all;
}

absl::StatusOr<TensorView> Checkpoint::Find(const std::string& name, const std::vector<int64_t>& shape) const {
  if (name == "lm_head.weight" && config().tied_embeddings) return Find("model.embed_tokens.weight", shape);
  const StoredTensor* stored = Look(name);
  if (stored == nullptr) return absl::NotFoundError(absl::StrCat("the tensor ", Describe(name), " ", ShapeText(shape), " is missing"));
  if (stored->shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat("the tensor ", Describe(name), " has the shape ", ShapeText(stored->shape),
                                                   ", but the config asks for ", ShapeText(shape)));
  }
  EBB_ASSIGN_OR_RETURN(TensorView view, ViewOf(*stored, Describe(name)));
  view.permuted_heads = PermutedHeads(name);
  return view;
}

absl::Status Checkpoint::CheckComplete() const {
  constexpr size_t kNamed = 8;
  std::vector<std::string> bad;
  size_t count = 0;
  for (const TensorRequirement& tensor : RequiredTensors(config())) {
    const absl::Status status = Find(tensor.name, tensor.shape).status();
    if (!status.ok() && ++count <= kNamed) bad.push_back(std::string(status.message()));
  }
  if (count == 0) return absl::OkStatus();
  const std::string more = count > kNamed ? absl::StrCat("; and ", count - kNamed, " more") : "";
  return absl::InvalidArgumentError(absl::StrCat(count, " of the needed tensors cannot be used: ", absl::StrJoin(bad, "; "), more));
}

std::string DisplayName(std::string name) {
  constexpr size_t kMaxBytes = 200;
  name.resize(std::min(name.size(), kMaxBytes));
  for (char& c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return name.empty() ? "model" : text::ReplaceInvalidUtf8(name);
}

absl::Status AddPath(const std::string& path, const absl::Status& status) {
  if (status.ok() || absl::StartsWith(status.message(), path)) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

namespace {

// The one GGUF file of a folder without config.json; empty if there is none.
absl::StatusOr<std::string> OnlyGgufFile(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() == ".gguf") found.push_back(entry->path().string());
  }
  if (error) return absl::InvalidArgumentError(absl::StrCat(folder, ": ", error.message()));
  if (found.empty()) return std::string();
  if (found.size() == 1) return found.front();
  return absl::InvalidArgumentError(absl::StrCat(folder, ": holds ", found.size(), " .gguf files; name one of them"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    if (std::filesystem::exists(path, error)) return OpenGgufFile(path);
    return absl::NotFoundError(
        absl::StrCat(path, ": no such file or folder; a model is a Hugging Face folder with config.json or a .gguf file"));
  }
  if (std::filesystem::exists(std::filesystem::path(path) / "config.json", error)) return OpenHuggingFaceFolder(path);
  EBB_ASSIGN_OR_RETURN(const std::string gguf, OnlyGgufFile(path));
  if (!gguf.empty()) return OpenGgufFile(gguf);
  return absl::NotFoundError(absl::StrCat(path, ": holds neither config.json nor a .gguf file"));
}

}  // namespace ebbinghaus::model
