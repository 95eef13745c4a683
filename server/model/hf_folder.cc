// Checkpoints as Hugging Face lays them out: config.json, tokenizer.json and one or many safetensors files.
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/checkpoint.h"
#include "server/model/json_guard.h"
#include "server/model/mapped_file.h"
#include "server/model/safetensors.h"

namespace ebbinghaus::model {
namespace {

using Json = nlohmann::json;

constexpr size_t kConfigLimit = 16 << 20;
constexpr size_t kTokenizerLimit = 256 << 20;

class HuggingFaceFolder final : public Checkpoint {
 public:
  explicit HuggingFaceFolder(std::string folder) : folder_(std::move(folder)) {}

  absl::Status Open();

  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer() const override { return tokenizer_; }
  const std::string& chat_template() const override { return chat_template_; }
  const std::string& bos_token() const override { return bos_token_; }
  const std::string& eos_token() const override { return eos_token_; }

 private:
  std::optional<TensorView> Look(const std::string& name) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return std::nullopt;
    return found->second;
  }

  std::string Path(const std::string& file) const { return (std::filesystem::path(folder_) / file).string(); }
  bool Has(const std::string& file) const {
    std::error_code error;
    return std::filesystem::exists(Path(file), error);
  }
  // Empty where the file is not there.
  absl::StatusOr<std::string> ReadIfThere(const std::string& file, size_t limit) const {
    if (!Has(file)) return std::string();
    return ReadTextFile(Path(file), limit);
  }

  absl::Status OpenText();
  absl::Status OpenTensors();
  absl::Status OpenShard(const std::string& file, const std::map<std::string, std::string>* owners);

  const std::string folder_;
  ModelConfig config_;
  TokenizerSource tokenizer_;
  std::string chat_template_, bos_token_, eos_token_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, TensorView> tensors_;
};

// A token is written as a string or as an object with its `content`.
std::string TokenText(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) return (*found)["content"].get<std::string>();
  return {};
}

// One template, or several with names, of which "default" is the one for chats.
std::string TemplateText(const Json& json) {
  const auto found = json.find("chat_template");
  if (found == json.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return {};
  for (const Json& named : *found) {
    if (named.is_object() && TokenText(named, "name") == "default") return TokenText(named, "template");
  }
  return {};
}

absl::Status HuggingFaceFolder::OpenText() {
  EBB_ASSIGN_OR_RETURN(const std::string tokenizer, ReadTextFile(Path("tokenizer.json"), kTokenizerLimit));
  tokenizer_ = tokenizer;
  EBB_ASSIGN_OR_RETURN(chat_template_, ReadIfThere("chat_template.jinja", kConfigLimit));
  EBB_ASSIGN_OR_RETURN(const std::string text, ReadIfThere("tokenizer_config.json", kConfigLimit));
  if (text.empty()) return absl::OkStatus();
  EBB_ASSIGN_OR_RETURN(const Json json, ParseJson(text, "tokenizer_config.json"));
  if (!json.is_object()) return absl::InvalidArgumentError("tokenizer_config.json: not a JSON object");
  bos_token_ = TokenText(json, "bos_token");
  eos_token_ = TokenText(json, "eos_token");
  if (chat_template_.empty()) chat_template_ = TemplateText(json);
  return absl::OkStatus();
}

// `owners`: which file each tensor should be in, or null for a single file.
absl::Status HuggingFaceFolder::OpenShard(const std::string& file, const std::map<std::string, std::string>* owners) {
  EBB_ASSIGN_OR_RETURN(auto mapped, MappedFile::Open(Path(file)));
  auto tensors = ReadSafetensors(mapped->bytes());
  if (!tensors.ok()) return absl::InvalidArgumentError(absl::StrCat(file, ": ", std::string(tensors.status().message())));
  for (auto& [name, view] : *tensors) {
    if (owners != nullptr) {
      const auto owner = owners->find(name);
      if (owner == owners->end() || owner->second != file) {
        return absl::InvalidArgumentError(
            absl::StrCat(file, ": holds the tensor ", name.substr(0, 128), ", which model.safetensors.index.json does not place there"));
      }
    }
    tensors_.emplace(name, std::move(view));
  }
  files_.push_back(std::move(mapped));
  return absl::OkStatus();
}

absl::Status HuggingFaceFolder::OpenTensors() {
  const std::string index = "model.safetensors.index.json";
  if (!Has(index)) {
    if (Has("model.safetensors")) return OpenShard("model.safetensors", nullptr);
    return absl::NotFoundError(absl::StrCat(folder_, ": neither model.safetensors nor ", index, " is there"));
  }
  EBB_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(Path(index), kConfigLimit));
  EBB_ASSIGN_OR_RETURN(const Json json, ParseJson(text, index));
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(index, ": weight_map is missing or not an object"));
  }
  std::map<std::string, std::string> owners;
  std::set<std::string> shards;
  for (const auto& [name, file] : json["weight_map"].items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (!absl::EndsWith(shard, ".safetensors") || shard.find('/') != shard.npos) {
      return absl::InvalidArgumentError(absl::StrCat(index, ": weight_map must name .safetensors files of the same folder"));
    }
    owners[name] = shard;
    shards.insert(shard);
  }
  for (const std::string& shard : shards) EBB_RETURN_IF_ERROR(OpenShard(shard, &owners));
  for (const auto& [name, shard] : owners) {
    if (tensors_.count(name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(index, ": the tensor ", name.substr(0, 128), " is not in ", shard));
    }
  }
  return absl::OkStatus();
}

absl::Status HuggingFaceFolder::Open() {
  if (!Has("config.json")) return absl::NotFoundError(absl::StrCat(folder_, ": no config.json; a model folder holds config.json, tokenizer.json and safetensors"));
  EBB_ASSIGN_OR_RETURN(const std::string config, ReadTextFile(Path("config.json"), kConfigLimit));
  EBB_ASSIGN_OR_RETURN(const std::string generation, ReadIfThere("generation_config.json", kConfigLimit));
  EBB_ASSIGN_OR_RETURN(config_, ParseHuggingFaceConfig(config, generation));
  config_.name = std::filesystem::weakly_canonical(folder_).filename().string();
  EBB_RETURN_IF_ERROR(OpenText());
  EBB_RETURN_IF_ERROR(OpenTensors());
  // Some configs leave the default of tie_word_embeddings unsaid; a head that is there decides.
  if (tensors_.count("lm_head.weight") == 0 && config_.architecture != Architecture::kMistral) config_.tied_embeddings = true;
  return CheckComplete();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHuggingFaceFolder(const std::string& folder) {
  auto checkpoint = std::make_unique<HuggingFaceFolder>(folder);
  EBB_RETURN_IF_ERROR(checkpoint->Open());
  return checkpoint;
}

}  // namespace ebbinghaus::model
