#include "server/model/checkpoint.h"

#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

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
  std::optional<TensorView> view = Look(name);
  if (!view) return absl::NotFoundError(absl::StrCat("the tensor ", name, " ", ShapeText(shape), " is missing"));
  if (view->shape != shape) {
    return absl::InvalidArgumentError(
        absl::StrCat("the tensor ", name, " has the shape ", ShapeText(view->shape), ", but the config asks for ", ShapeText(shape)));
  }
  return *std::move(view);
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
  return absl::InvalidArgumentError(
      absl::StrCat(absl::StrJoin(bad, "; "), count > kNamed ? absl::StrCat("; and ", count - kNamed, " more") : ""));
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return OpenHuggingFaceFolder(path);
  if (!std::filesystem::exists(path, error)) {
    return absl::NotFoundError(
        absl::StrCat(path, ": no such file or folder; a model is a Hugging Face folder with config.json or a .gguf file"));
  }
  return OpenGgufFile(path);
}

}  // namespace ebbinghaus::model
