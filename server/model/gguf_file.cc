// Checkpoints in one GGUF file: its metadata keys and tensor names, translated.
#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/checkpoint.h"
#include "server/model/dequantize.h"
#include "server/model/gguf.h"
#include "server/model/mapped_file.h"

namespace ebbinghaus::model {
namespace {

struct NamePair {
  const char* hugging_face;
  const char* gguf;
};
constexpr NamePair kTopNames[] = {
    {"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}};
constexpr NamePair kLayerNames[] = {
    {"input_layernorm", "attn_norm"},      {"post_attention_layernorm", "ffn_norm"}, {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},        {"self_attn.v_proj", "attn_v"},           {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},   {"self_attn.k_norm", "attn_k_norm"},      {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},             {"mlp.down_proj", "ffn_down"}};

// "model.layers.3.mlp.up_proj.weight" -> "blk.3.ffn_up.weight"; empty for names that have no counterpart.
std::string GgufName(const std::string& name) {
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return {};
  const std::string stem = name.substr(0, dot), kind = name.substr(dot);
  for (const NamePair& pair : kTopNames) {
    if (stem == pair.hugging_face) return pair.gguf + kind;
  }
  const std::string prefix = "model.layers.";
  if (!absl::StartsWith(stem, prefix)) return {};
  const size_t number_end = stem.find('.', prefix.size());
  if (number_end == stem.npos) return {};
  for (const NamePair& pair : kLayerNames) {
    if (stem.substr(number_end + 1) == pair.hugging_face) {
      return absl::StrCat("blk.", stem.substr(prefix.size(), number_end - prefix.size()), ".", pair.gguf, kind);
    }
  }
  return {};
}

class GgufFile final : public Checkpoint {
 public:
  absl::Status Open(const std::string& path);

  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer() const override { return tokenizer_; }
  const std::string& chat_template() const override { return chat_template_; }
  const std::string& bos_token() const override { return bos_token_; }
  const std::string& eos_token() const override { return eos_token_; }

 private:
  std::optional<TensorView> Look(const std::string& name) const override;

  absl::Status ReadConfig();
  absl::Status ReadRope();
  absl::Status ReadVocabulary();
  absl::Status ReadEndTokens(const text::GgufVocabulary& vocabulary);
  // The count under "<architecture>.<key>".
  template <typename Int>
  absl::Status ReadCount(const std::string& key, Int& target) const;

  std::shared_ptr<const MappedFile> file_;
  Gguf gguf_;
  std::string prefix_;  // "<architecture>."
  ModelConfig config_;
  TokenizerSource tokenizer_;
  std::string chat_template_, bos_token_, eos_token_;
};

std::optional<TensorView> GgufFile::Look(const std::string& name) const {
  const auto found = gguf_.tensors.find(GgufName(name));
  if (found == gguf_.tensors.end()) return std::nullopt;
  TensorView view = found->second;
  // Llama's converter interleaves the rotary halves of q and k; the others' does not.
  const bool llama = config_.architecture == Architecture::kLlama || config_.architecture == Architecture::kMistral;
  if (llama && absl::StrContains(name, "self_attn.q_proj")) view.permuted_heads = static_cast<uint32_t>(config_.query_heads);
  if (llama && absl::StrContains(name, "self_attn.k_proj")) view.permuted_heads = static_cast<uint32_t>(config_.kv_heads);
  return view;
}

template <typename Int>
absl::Status GgufFile::ReadCount(const std::string& key, Int& target) const {
  EBB_ASSIGN_OR_RETURN(const std::optional<uint64_t> value, gguf_.Count(prefix_ + key));
  if (!value) return absl::OkStatus();
  if (*value > 0x7fffffff) return absl::InvalidArgumentError(absl::StrCat("GGUF: ", prefix_, key, " is out of range"));
  target = static_cast<Int>(*value);
  return absl::OkStatus();
}

absl::Status GgufFile::ReadRope() {
  EBB_ASSIGN_OR_RETURN(const auto theta, gguf_.Real(prefix_ + "rope.freq_base"));
  config_.rope_theta = theta.value_or(config_.rope_theta);
  EBB_ASSIGN_OR_RETURN(const std::string kind, gguf_.Text(prefix_ + "rope.scaling.type", "none"));
  EBB_ASSIGN_OR_RETURN(const auto factor, gguf_.Real(prefix_ + "rope.scaling.factor"));
  if (kind == "linear") {
    config_.rope_scaling.kind = RopeScaling::Kind::kLinear;
    config_.rope_scaling.factor = factor.value_or(1);
  } else if (kind != "none") {
    return absl::InvalidArgumentError(absl::StrCat("GGUF: ", prefix_, "rope.scaling.type \"", kind.substr(0, 32),
                                                   "\" is not supported; supported are none and linear"));
  }
  const auto factors = gguf_.tensors.find("rope_freqs.weight");  // Llama 3's scaling, worked out by the converter
  if (factors == gguf_.tensors.end()) return absl::OkStatus();
  if (factors->second.shape != std::vector<int64_t>{config_.head_size / 2}) {
    return absl::InvalidArgumentError("GGUF: rope_freqs.weight does not have half the head's size");
  }
  config_.rope_factors.resize(config_.head_size / 2);
  DequantizeRows(factors->second, 0, 1, config_.rope_factors.data());
  return absl::OkStatus();
}

absl::Status GgufFile::ReadConfig() {
  EBB_ASSIGN_OR_RETURN(const std::string architecture, gguf_.Text("general.architecture", ""));
  EBB_ASSIGN_OR_RETURN(config_.architecture, ParseArchitecture(architecture));
  prefix_ = architecture + ".";
  EBB_RETURN_IF_ERROR(ReadCount("block_count", config_.layers));
  EBB_RETURN_IF_ERROR(ReadCount("context_length", config_.context));
  EBB_RETURN_IF_ERROR(ReadCount("embedding_length", config_.hidden));
  EBB_RETURN_IF_ERROR(ReadCount("feed_forward_length", config_.feed_forward));
  EBB_RETURN_IF_ERROR(ReadCount("attention.head_count", config_.query_heads));
  config_.kv_heads = config_.query_heads;
  EBB_RETURN_IF_ERROR(ReadCount("attention.head_count_kv", config_.kv_heads));
  config_.head_size = config_.query_heads > 0 ? config_.hidden / config_.query_heads : 0;
  EBB_RETURN_IF_ERROR(ReadCount("attention.key_length", config_.head_size));
  uint32_t window = 0;
  EBB_RETURN_IF_ERROR(ReadCount("attention.sliding_window", window));
  if (window > 0) config_.context = std::min(config_.context, window);
  EBB_ASSIGN_OR_RETURN(const auto epsilon, gguf_.Real(prefix_ + "attention.layer_norm_rms_epsilon"));
  config_.rms_norm_epsilon = epsilon.value_or(config_.rms_norm_epsilon);
  const auto embedding = gguf_.tensors.find("token_embd.weight");
  if (embedding == gguf_.tensors.end()) return absl::InvalidArgumentError("GGUF: the tensor token_embd.weight is missing");
  config_.vocabulary = embedding->second.rows();
  config_.tied_embeddings = gguf_.tensors.count("output.weight") == 0;
  config_.qkv_bias = gguf_.tensors.count("blk.0.attn_q.bias") != 0;
  config_.o_bias = gguf_.tensors.count("blk.0.attn_output.bias") != 0;
  config_.mlp_bias = gguf_.tensors.count("blk.0.ffn_up.bias") != 0;
  config_.qk_norm = config_.architecture == Architecture::kQwen3;
  EBB_RETURN_IF_ERROR(config_.Check());
  EBB_RETURN_IF_ERROR(ReadRope());
  return config_.Check();
}

absl::Status GgufFile::ReadVocabulary() {
  text::GgufVocabulary vocabulary;
  const std::string ggml = "tokenizer.ggml.";
  EBB_ASSIGN_OR_RETURN(vocabulary.model, gguf_.Text(ggml + "model", ""));
  EBB_ASSIGN_OR_RETURN(vocabulary.pre, gguf_.Text(ggml + "pre", ""));
  EBB_ASSIGN_OR_RETURN(vocabulary.tokens, gguf_.ListOf<std::vector<std::string>>(ggml + "tokens"));
  EBB_ASSIGN_OR_RETURN(vocabulary.merges, gguf_.ListOf<std::vector<std::string>>(ggml + "merges"));
  EBB_ASSIGN_OR_RETURN(const auto scores, gguf_.ListOf<std::vector<double>>(ggml + "scores"));
  EBB_ASSIGN_OR_RETURN(const auto types, gguf_.ListOf<std::vector<int64_t>>(ggml + "token_type"));
  vocabulary.scores.assign(scores.begin(), scores.end());
  vocabulary.token_types.assign(types.begin(), types.end());
  const std::array<std::pair<const char*, std::optional<base::TokenId>*>, 3> ids = {
      {{"bos_token_id", &vocabulary.bos_token_id}, {"eos_token_id", &vocabulary.eos_token_id}, {"unknown_token_id", &vocabulary.unknown_token_id}}};
  for (const auto& [key, target] : ids) {
    EBB_ASSIGN_OR_RETURN(const std::optional<uint64_t> id, gguf_.Count(ggml + key));
    if (!id) continue;
    if (*id >= vocabulary.tokens.size()) return absl::InvalidArgumentError(absl::StrCat("GGUF: ", ggml, key, " is not in the vocabulary"));
    *target = static_cast<base::TokenId>(*id);
  }
  EBB_ASSIGN_OR_RETURN(vocabulary.add_bos_token, gguf_.Flag(ggml + "add_bos_token"));
  EBB_ASSIGN_OR_RETURN(vocabulary.add_space_prefix, gguf_.Flag(ggml + "add_space_prefix"));
  if (static_cast<int64_t>(vocabulary.tokens.size()) > config_.vocabulary) {
    return absl::InvalidArgumentError("GGUF: more tokens than rows in token_embd.weight");
  }
  EBB_RETURN_IF_ERROR(ReadEndTokens(vocabulary));
  config_.bos_token_id = vocabulary.bos_token_id;
  if (vocabulary.bos_token_id) bos_token_ = vocabulary.tokens[*vocabulary.bos_token_id];
  if (vocabulary.eos_token_id) eos_token_ = vocabulary.tokens[*vocabulary.eos_token_id];
  tokenizer_ = std::move(vocabulary);
  EBB_ASSIGN_OR_RETURN(chat_template_, gguf_.Text("tokenizer.chat_template", ""));
  return absl::OkStatus();
}

// The end of a text and, where the model has them, the end of a turn.
absl::Status GgufFile::ReadEndTokens(const text::GgufVocabulary& vocabulary) {
  auto& ends = config_.eos_token_ids;
  if (vocabulary.eos_token_id) ends.push_back(*vocabulary.eos_token_id);
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    EBB_ASSIGN_OR_RETURN(const std::optional<uint64_t> id, gguf_.Count(key));
    if (!id) continue;
    if (*id >= vocabulary.tokens.size()) return absl::InvalidArgumentError(absl::StrCat("GGUF: ", key, " is not in the vocabulary"));
    if (std::find(ends.begin(), ends.end(), *id) == ends.end()) ends.push_back(static_cast<base::TokenId>(*id));
  }
  return absl::OkStatus();
}

absl::Status GgufFile::Open(const std::string& path) {
  EBB_ASSIGN_OR_RETURN(file_, MappedFile::Open(path));
  EBB_ASSIGN_OR_RETURN(gguf_, ReadGguf(file_->bytes()));
  EBB_RETURN_IF_ERROR(ReadConfig());
  EBB_RETURN_IF_ERROR(ReadVocabulary());
  config_.name = std::filesystem::path(path).stem().string();
  return CheckComplete();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufFile(const std::string& path) {
  auto checkpoint = std::make_unique<GgufFile>();
  const absl::Status status = checkpoint->Open(path);
  if (!status.ok()) return absl::Status(status.code(), absl::StrCat(path, ": ", std::string(status.message())));
  return checkpoint;
}

}  // namespace ebbinghaus::model
