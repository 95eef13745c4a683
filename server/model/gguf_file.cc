// Checkpoints in one GGUF file: its metadata keys and tensor names, translated.
//
// Source: the GGUF specification (keys), and llama.cpp's converter (names of tensors, order of Llama's q and k rows).
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/status_macros.h"
#include "server/model/checkpoint.h"
#include "server/model/checkpoint_internal.h"
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
  const ChatTemplates& chat_templates() const override { return templates_; }
  const std::string& bos_token() const override { return bos_token_; }
  const std::string& eos_token() const override { return eos_token_; }

 private:
  const StoredTensor* Look(const std::string& name) const override;
  uint32_t PermutedHeads(const std::string& name) const override;
  std::string Describe(const std::string& name) const override;

  absl::StatusOr<Gguf> ReadFile(const std::string& path);
  absl::Status ReadParts(const std::filesystem::path& path);
  bool HasTensor(const std::string& gguf_name) const { return gguf_.tensors.count(gguf_name) != 0; }
  ConfigKeys Keys() const;
  absl::Status RefuseVariants() const;
  absl::Status ReadSizes();
  absl::Status ReadRope();
  absl::Status ReadConfig();
  absl::Status ReadTokenIds(text::GgufVocabulary& vocabulary);
  absl::Status ReadVocabulary();
  void ReadTemplates();
  void ReadSpecialTokens(const text::GgufVocabulary& vocabulary);

  std::vector<std::shared_ptr<const MappedFile>> files_;
  Gguf gguf_;
  std::string prefix_;  // "<architecture>."
  ModelConfig config_;
  TokenizerSource tokenizer_;
  std::string chat_template_, bos_token_, eos_token_;
  ChatTemplates templates_;
};

const StoredTensor* GgufFile::Look(const std::string& name) const {
  const auto found = gguf_.tensors.find(GgufName(name));
  return found == gguf_.tensors.end() ? nullptr : &found->second;
}

// Llama's converter interleaves the rotary halves of q and k; the others' does not.
uint32_t GgufFile::PermutedHeads(const std::string& name) const {
  if (config_.architecture != Architecture::kLlama) return 0;
  if (absl::StrContains(name, ".self_attn.q_proj.")) return static_cast<uint32_t>(config_.query_heads);
  if (absl::StrContains(name, ".self_attn.k_proj.")) return static_cast<uint32_t>(config_.kv_heads);
  return 0;
}

std::string GgufFile::Describe(const std::string& name) const { return absl::StrCat(name, " (", GgufName(name), ")"); }

ConfigKeys GgufFile::Keys() const {
  return {.file = "GGUF",
          .layers = prefix_ + "block_count",
          .context = prefix_ + "context_length (or attention.sliding_window)",
          .hidden = prefix_ + "embedding_length",
          .feed_forward = prefix_ + "feed_forward_length",
          .query_heads = prefix_ + "attention.head_count",
          .kv_heads = prefix_ + "attention.head_count_kv",
          .head_size = prefix_ + "attention.key_length",
          .vocabulary = "the number of rows of token_embd.weight",
          .rms_norm_epsilon = prefix_ + "attention.layer_norm_rms_epsilon",
          .rope_theta = prefix_ + "rope.freq_base",
          .rope_scaling = prefix_ + "rope.scaling.",
          .rope_factors = "rope_freqs.weight",
          .eos_token_id = "tokenizer.ggml.eos_token_id (or eot_token_id, eom_token_id)",
          .bos_token_id = "tokenizer.ggml.bos_token_id"};
}

// Forms of the supported architectures that compute something else, or that are not whole.
absl::Status GgufFile::RefuseVariants() const {
  const GgufMetadata& metadata = gguf_.metadata;
  ConfigReader reader(metadata);
  int64_t experts = 0, rotated = config_.head_size, value_length = config_.head_size;
  reader.Read(prefix_ + "expert_count", experts);
  reader.Read(prefix_ + "rope.dimension_count", rotated);
  reader.Read(prefix_ + "attention.value_length", value_length);
  EBB_RETURN_IF_ERROR(reader.status());
  if (experts > 0) return metadata.Wrong(prefix_ + "expert_count", "is above 0: mixtures of experts are not supported");
  const std::string other = absl::StrCat("differs from the head size, ", config_.head_size, ", which is not supported");
  if (rotated != config_.head_size) return metadata.Wrong(prefix_ + "rope.dimension_count", other);
  if (value_length != config_.head_size) return metadata.Wrong(prefix_ + "attention.value_length", other);
  return absl::OkStatus();
}

absl::Status GgufFile::ReadSizes() {
  ConfigReader reader(gguf_.metadata);
  reader.Require(prefix_ + "block_count", config_.layers);
  reader.Require(prefix_ + "context_length", config_.context);
  reader.Require(prefix_ + "embedding_length", config_.hidden);
  reader.Require(prefix_ + "feed_forward_length", config_.feed_forward);
  reader.Require(prefix_ + "attention.head_count", config_.query_heads);
  reader.Require(prefix_ + "attention.layer_norm_rms_epsilon", config_.rms_norm_epsilon);
  config_.kv_heads = config_.query_heads;
  reader.Read(prefix_ + "attention.head_count_kv", config_.kv_heads);
  int64_t window = 0;
  reader.Read(prefix_ + "attention.sliding_window", window);
  config_.context = CapContext(config_.context, window);
  const std::string key_length = prefix_ + "attention.key_length";
  if (!reader.Read(key_length, config_.head_size) && reader.status().ok()) {
    if (config_.query_heads > 0 && config_.hidden % config_.query_heads == 0) {
      config_.head_size = config_.hidden / config_.query_heads;
    } else {
      reader.Fail(gguf_.metadata.Wrong(key_length, "is missing, and attention.head_count does not divide embedding_length"));
    }
  }
  return reader.status();
}

absl::Status GgufFile::ReadRope() {
  ConfigReader reader(gguf_.metadata);
  RopeScaling& scaling = config_.rope_scaling;
  std::string kind = "linear";
  reader.Read(prefix_ + "rope.freq_base", config_.rope_theta);
  reader.Read(prefix_ + "rope.scale_linear", scaling.factor);  // the name it had before there were kinds
  reader.Read(prefix_ + "rope.scaling.factor", scaling.factor);
  reader.Read(prefix_ + "rope.scaling.type", kind);
  EBB_RETURN_IF_ERROR(reader.status());
  if (kind == "none" || scaling.factor == 0) scaling.factor = 1;  // 0 has stood for "none", too
  if (kind != "none" && kind != "linear") {
    return gguf_.metadata.Wrong(prefix_ + "rope.scaling.type",
                                absl::StrCat("\"", kind.substr(0, 32), "\" is not supported; supported are none and linear"));
  }
  if (scaling.factor != 1) scaling.kind = RopeScaling::Kind::kLinear;
  if (HasTensor("rope_factors_long.weight")) return gguf_.metadata.Wrong("rope_factors_long.weight", "(longrope) is not supported");
  const auto factors = gguf_.tensors.find("rope_freqs.weight");  // Llama 3's scaling, worked out by the converter
  if (factors == gguf_.tensors.end()) return absl::OkStatus();
  const StoredTensor& tensor = factors->second;
  if (tensor.type != TensorType::kF32 || tensor.shape != std::vector<int64_t>{config_.head_size / 2}) {
    return gguf_.metadata.Wrong("rope_freqs.weight", absl::StrCat("must hold ", config_.head_size / 2, " values of F32, half the head size"));
  }
  config_.rope_factors.resize(config_.head_size / 2);
  Dequantize(TensorType::kF32, tensor.data.data(), config_.head_size / 2, config_.rope_factors.data());
  return absl::OkStatus();
}

absl::Status GgufFile::ReadConfig() {
  std::string architecture;
  ConfigReader reader(gguf_.metadata);
  reader.Require("general.architecture", architecture);
  EBB_RETURN_IF_ERROR(reader.status());
  absl::StatusOr<Architecture> parsed = ParseArchitecture(architecture);
  if (!parsed.ok()) return gguf_.metadata.Wrong("general.architecture:", std::string(parsed.status().message()));
  config_.architecture = *parsed;
  prefix_ = architecture + ".";
  EBB_RETURN_IF_ERROR(ReadSizes());
  EBB_RETURN_IF_ERROR(RefuseVariants());
  const auto embedding = gguf_.tensors.find("token_embd.weight");
  if (embedding == gguf_.tensors.end()) return absl::NotFoundError("GGUF: the tensor token_embd.weight is missing");
  config_.vocabulary = embedding->second.shape.front();
  config_.tied_embeddings = !HasTensor("output.weight");
  config_.qkv_bias = config_.architecture == Architecture::kQwen2 || HasTensor("blk.0.attn_q.bias");
  config_.o_bias = HasTensor("blk.0.attn_output.bias");
  config_.mlp_bias = HasTensor("blk.0.ffn_up.bias");
  config_.qk_norm = config_.architecture == Architecture::kQwen3;
  EBB_RETURN_IF_ERROR(CheckConfig(config_, Keys()));  // sizes are sane before rope factors are looked at
  return ReadRope();
}

absl::Status GgufFile::ReadTokenIds(text::GgufVocabulary& vocabulary) {
  const GgufMetadata& metadata = gguf_.metadata;
  ConfigReader reader(metadata);
  const auto read = [&](const std::string& key) {
    int64_t id = -1;
    reader.Read("tokenizer.ggml." + key, id);
    // As in llama.cpp, -1 in whichever width and other ids that are no token stand for none.
    const auto known = std::min<int64_t>(static_cast<int64_t>(vocabulary.tokens.size()), config_.vocabulary);
    std::optional<base::TokenId> found;
    if (id >= 0 && id < known) found = static_cast<base::TokenId>(id);
    if (found) vocabulary.control_token_ids.push_back(*found);
    return found;
  };
  vocabulary.bos_token_id = config_.bos_token_id = read("bos_token_id");
  vocabulary.unknown_token_id = read("unknown_token_id");
  vocabulary.eos_token_id = read("eos_token_id");
  // The ends of a text, of a turn and of a message.
  auto& ends = config_.eos_token_ids;
  for (const auto& end : {vocabulary.eos_token_id, read("eot_token_id"), read("eom_token_id")}) {
    if (end && std::find(ends.begin(), ends.end(), *end) == ends.end()) ends.push_back(*end);
  }
  EBB_RETURN_IF_ERROR(reader.status());
  if (vocabulary.bos_token_id) bos_token_ = vocabulary.tokens[*vocabulary.bos_token_id];
  if (vocabulary.eos_token_id) eos_token_ = vocabulary.tokens[*vocabulary.eos_token_id];
  return absl::OkStatus();
}

// What is wrong here is a problem of chats alone.
void GgufFile::ReadTemplates() {
  const std::string key = "tokenizer.chat_template";
  const auto read = [&](const std::string& name, const std::string& from) {
    absl::StatusOr<std::optional<std::string>> source = gguf_.metadata.Text(from);
    if (source.ok() && *source) templates_.by_name.emplace(name, **std::move(source));
    if (!source.ok() && templates_.problem.empty()) templates_.problem = std::string(source.status().message());
  };
  read("default", key);
  const absl::StatusOr<std::vector<std::string>> names = gguf_.metadata.TakeList<std::string>("tokenizer.chat_templates");
  for (const std::string& name : names.value_or(std::vector<std::string>())) read(name, key + "." + name);
  read("tool_use", key + ".tool_use");
  const auto usual = templates_.by_name.find("default");
  if (usual != templates_.by_name.end()) chat_template_ = usual->second;
}

void GgufFile::ReadSpecialTokens(const text::GgufVocabulary& vocabulary) {
  static constexpr std::pair<const char*, const char*> kTokens[] = {
      {"unk_token", "unknown"}, {"sep_token", "seperator"}, {"sep_token", "separator"}, {"pad_token", "padding"},
      {"cls_token", "cls"}, {"mask_token", "mask"}};
  for (const auto& [name, key] : kTokens) {
    const auto id = gguf_.metadata.Integer(std::string("tokenizer.ggml.") + key + "_token_id");
    if (!id.ok() || !*id || **id < 0 || static_cast<uint64_t>(**id) >= vocabulary.tokens.size()) continue;
    templates_.special_tokens.Set(name, jinja::Value::Of(vocabulary.tokens[static_cast<size_t>(**id)]));
  }
}

absl::Status GgufFile::ReadVocabulary() {
  text::GgufVocabulary vocabulary;
  GgufMetadata& metadata = gguf_.metadata;
  const std::string ggml = "tokenizer.ggml.";
  ConfigReader reader(metadata);
  reader.Read(ggml + "model", vocabulary.model);
  reader.Read(ggml + "pre", vocabulary.pre);
  EBB_RETURN_IF_ERROR(reader.status());
  EBB_ASSIGN_OR_RETURN(vocabulary.add_bos_token, metadata.Flag(ggml + "add_bos_token"));
  EBB_ASSIGN_OR_RETURN(vocabulary.add_eos_token, metadata.Flag(ggml + "add_eos_token"));
  EBB_ASSIGN_OR_RETURN(vocabulary.add_space_prefix, metadata.Flag(ggml + "add_space_prefix"));
  EBB_ASSIGN_OR_RETURN(vocabulary.remove_extra_whitespaces, metadata.Flag(ggml + "remove_extra_whitespaces"));
  EBB_ASSIGN_OR_RETURN(const auto charsmap, metadata.TakeList<int64_t>(ggml + "precompiled_charsmap"));
  for (const int64_t byte : charsmap) vocabulary.precompiled_charsmap.push_back(static_cast<char>(byte));
  EBB_ASSIGN_OR_RETURN(vocabulary.tokens, metadata.TakeList<std::string>(ggml + "tokens"));
  EBB_ASSIGN_OR_RETURN(vocabulary.merges, metadata.TakeList<std::string>(ggml + "merges"));
  EBB_ASSIGN_OR_RETURN(const auto scores, metadata.TakeList<double>(ggml + "scores"));
  EBB_ASSIGN_OR_RETURN(const auto types, metadata.TakeList<int64_t>(ggml + "token_type"));
  if (!std::all_of(types.begin(), types.end(), [](int64_t type) { return std::in_range<int32_t>(type); })) {
    return metadata.Wrong(ggml + "token_type", "holds a number that is out of range");
  }
  vocabulary.scores.assign(scores.begin(), scores.end());
  vocabulary.token_types.assign(types.begin(), types.end());
  vocabulary.max_tokens = static_cast<uint32_t>(std::min<int64_t>(config_.vocabulary, UINT32_MAX));
  EBB_RETURN_IF_ERROR(ReadTokenIds(vocabulary));
  ReadTemplates();
  ReadSpecialTokens(vocabulary);
  tokenizer_ = std::move(vocabulary);
  return absl::OkStatus();
}

absl::StatusOr<Gguf> GgufFile::ReadFile(const std::string& path) {
  EBB_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
  absl::StatusOr<Gguf> gguf = ReadGguf(file->bytes());
  files_.push_back(std::move(file));
  if (!gguf.ok()) return AddPath(path, gguf.status());
  return gguf;
}

// `part` is one of `count`, counted from 0, by its own account.
absl::Status CheckPart(const GgufMetadata& metadata, int64_t part, int64_t count) {
  ConfigReader reader(metadata);
  int64_t own_count = 0, number = 0;
  reader.Require("split.count", own_count);
  reader.Require("split.no", number);
  EBB_RETURN_IF_ERROR(reader.status());
  if (own_count != count) return metadata.Wrong("split.count", absl::StrCat("is ", own_count, ", but the file's name says ", count));
  if (number != part) return metadata.Wrong("split.no", absl::StrCat("is ", number, ", but must be ", part, " by the file's name"));
  return absl::OkStatus();
}

// The file, and where it is one part of several, the others beside it. The first part has the metadata; tensors are anywhere.
absl::Status GgufFile::ReadParts(const std::filesystem::path& path) {
  EBB_ASSIGN_OR_RETURN(gguf_, ReadFile(path.string()));
  int64_t count = 0, expected_tensors = -1;
  ConfigReader reader(gguf_.metadata);
  reader.Read("split.count", count);
  EBB_RETURN_IF_ERROR(reader.status());
  if (count <= 1) return absl::OkStatus();
  const std::optional<PartName> name = ParsePartName(path.filename().string(), ".gguf");
  if (!name || name->count != count) {
    return gguf_.metadata.Wrong("split.count", absl::StrCat("is ", count, ", but the file is not called NAME-00001-of-",
                                                            absl::StrFormat("%05d", count), ".gguf, so the other parts are unknown"));
  }
  const uint32_t given = name->number;
  std::vector<Gguf> parts(count);
  parts[given - 1] = std::move(gguf_);
  for (uint32_t number = 1; number <= name->count; ++number) {
    const std::string file = (path.parent_path() / PartFileName(name->stem, number, name->count, ".gguf")).string();
    std::error_code error;
    if (!std::filesystem::exists(file, error)) {
      return absl::NotFoundError(absl::StrCat(file, ": part ", number, " of ", count, " is missing"));
    }
    if (number != given) {
      EBB_ASSIGN_OR_RETURN(parts[number - 1], ReadFile(file));
    }
    EBB_RETURN_IF_ERROR(AddPath(file, CheckPart(parts[number - 1].metadata, number - 1, count)));
  }
  gguf_ = std::move(parts[0]);
  for (int64_t part = 1; part < count; ++part) {
    for (auto& [tensor_name, tensor] : parts[part].tensors) {
      if (!gguf_.tensors.emplace(tensor_name, std::move(tensor)).second) {
        return absl::InvalidArgumentError(absl::StrCat("GGUF: the tensor \"", tensor_name.substr(0, 128), "\" is in two parts"));
      }
    }
  }
  ConfigReader first(gguf_.metadata);
  if (first.Read("split.tensors.count", expected_tensors) && expected_tensors != static_cast<int64_t>(gguf_.tensors.size())) {
    return gguf_.metadata.Wrong("split.tensors.count", absl::StrCat("is ", expected_tensors, ", but the ", count, " parts hold ",
                                                                    gguf_.tensors.size(), " tensors"));
  }
  return first.status();
}

absl::Status GgufFile::Open(const std::string& path) {
  EBB_RETURN_IF_ERROR(ReadParts(path));
  EBB_RETURN_IF_ERROR(ReadConfig());
  EBB_RETURN_IF_ERROR(ReadVocabulary());
  EBB_RETURN_IF_ERROR(CheckConfig(config_, Keys()));
  const std::filesystem::path file(path);
  const std::optional<PartName> part = ParsePartName(file.filename().string(), ".gguf");
  config_.name = DisplayName(part ? part->stem : file.stem().string());
  gguf_.metadata = GgufMetadata();  // megabytes of lists that were not asked for
  return CheckComplete();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufFile(const std::string& path) {
  auto checkpoint = std::make_unique<GgufFile>();
  EBB_RETURN_IF_ERROR(AddPath(path, checkpoint->Open(path)));
  return checkpoint;
}

}  // namespace ebbinghaus::model
