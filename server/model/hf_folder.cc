// Checkpoints as Hugging Face lays them out: config.json, tokenizer.json and one or many safetensors files.
#include <filesystem>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/checkpoint.h"
#include "server/model/checkpoint_internal.h"
#include "server/model/json_fields.h"
#include "server/model/mapped_file.h"
#include "server/model/safetensors.h"

namespace ebbinghaus::model {
namespace {

constexpr char kIndex[] = "model.safetensors.index.json", kSingle[] = "model.safetensors";
constexpr char kTokenizerConfig[] = "tokenizer_config.json";

// Parsing costs up to some thirty times a file's size, so these bound memory.
constexpr size_t kConfigLimit = 4 << 20;
constexpr size_t kIndexLimit = 16 << 20;
constexpr size_t kTokenizerLimit = 256 << 20;

using Owners = std::map<std::string, std::string>;  // which file a tensor is in, by the index

class HuggingFaceFolder final : public Checkpoint {
 public:
  explicit HuggingFaceFolder(std::string folder) : folder_(std::move(folder)) {}

  absl::Status Open();

  const ModelConfig& config() const override { return config_; }
  const TokenizerSource& tokenizer() const override { return tokenizer_; }
  const std::string& chat_template() const override { return chat_template_; }
  const std::string& bos_token() const override { return bos_token_; }
  const std::string& eos_token() const override { return eos_token_; }
  text::TokenizerSettings tokenizer_settings() const override { return settings_; }

 private:
  const StoredTensor* Look(const std::string& name) const override {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }

  std::string Path(const std::string& file) const { return (std::filesystem::path(folder_) / file).string(); }
  bool Has(const std::string& file) const {
    std::error_code error;
    return std::filesystem::exists(Path(file), error);
  }
  // Empty when the file is not there.
  absl::StatusOr<std::string> ReadIfThere(const std::string& file, size_t limit) const {
    if (!Has(file)) return std::string();
    return ReadTextFile(Path(file), limit);
  }

  absl::Status OpenText();
  absl::Status OpenShard(const std::string& file, const Owners* owners);
  absl::Status OpenShards();
  absl::Status OpenTensors();

  const std::string folder_;
  ModelConfig config_;
  TokenizerSource tokenizer_;
  text::TokenizerSettings settings_;
  std::string chat_template_, bos_token_, eos_token_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, StoredTensor> tensors_;
};

// A token is written as a string or as an object with its `content`.
absl::StatusOr<std::string> TokenText(const JsonFields& fields, const char* key) {
  const Json* token = fields.Find(key);
  if (token == nullptr) return std::string();
  if (token->is_string()) return token->get<std::string>();
  if (!token->is_object()) return fields.Wrong(key, "must be a string or an object with `content`");
  EBB_ASSIGN_OR_RETURN(const std::optional<std::string> content, JsonFields(*token, kTokenizerConfig, absl::StrCat(key, ".")).Text("content"));
  return content.value_or("");
}

// Which tokens are special and what stands around a text. Special is also what a list of additional
// tokens or of the tokens' decoder says.
absl::StatusOr<text::TokenizerSettings> ReadSettings(const JsonFields& fields) {
  text::TokenizerSettings settings;
  EBB_ASSIGN_OR_RETURN(settings.add_bos, fields.Flag("add_bos_token"));
  EBB_ASSIGN_OR_RETURN(settings.add_eos, fields.Flag("add_eos_token"));
  EBB_ASSIGN_OR_RETURN(settings.bos, TokenText(fields, "bos_token"));
  EBB_ASSIGN_OR_RETURN(settings.eos, TokenText(fields, "eos_token"));
  for (const char* key : {"bos_token", "eos_token", "pad_token"}) {
    EBB_ASSIGN_OR_RETURN(std::string token, TokenText(fields, key));
    if (!token.empty()) settings.control_texts.push_back(std::move(token));
  }
  const auto add = [&](const Json& token) {
    if (token.is_string()) settings.control_texts.push_back(token.get<std::string>());
    if (!token.is_object()) return;
    const auto content = token.find("content");
    if (content != token.end() && content->is_string()) {
      settings.control_texts.push_back(content->get<std::string>());
    }
  };
  const Json* additional = fields.Find("additional_special_tokens");
  if (additional != nullptr && additional->is_array()) {
    for (const Json& token : *additional) add(token);
  }
  const Json* decoder = fields.Find("added_tokens_decoder");
  if (decoder != nullptr && decoder->is_object()) {
    for (const Json& token : *decoder) {
      if (token.is_object() && token.value("special", Json()) == true) add(token);
    }
  }
  return settings;
}

// One template, or several with names, of which "default" is the one for chats.
absl::StatusOr<std::string> TemplateText(const JsonFields& fields) {
  const Json* json = fields.Find("chat_template");
  if (json == nullptr) return std::string();
  if (json->is_string()) return json->get<std::string>();
  if (!json->is_array()) return fields.Wrong("chat_template", "must be a string or a list of named templates");
  for (const Json& named : *json) {
    if (!named.is_object()) return fields.Wrong("chat_template", "must be a string or a list of named templates");
    const JsonFields entry(named, kTokenizerConfig, "chat_template.");
    EBB_ASSIGN_OR_RETURN(const std::optional<std::string> name, entry.Text("name"));
    EBB_ASSIGN_OR_RETURN(const std::optional<std::string> text, entry.Text("template"));
    if (name == "default") return text.value_or("");
  }
  return std::string();
}

absl::Status HuggingFaceFolder::OpenText() {
  if (!Has("tokenizer.json")) {
    return absl::NotFoundError("tokenizer.json is missing (a tokenizer.model alone is not supported)");
  }
  EBB_ASSIGN_OR_RETURN(tokenizer_, ReadTextFile(Path("tokenizer.json"), kTokenizerLimit));
  EBB_ASSIGN_OR_RETURN(chat_template_, ReadIfThere("chat_template.jinja", kConfigLimit));
  EBB_ASSIGN_OR_RETURN(const std::string text, ReadIfThere(kTokenizerConfig, kIndexLimit));
  if (text.empty()) return absl::OkStatus();
  EBB_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kTokenizerConfig));
  const JsonFields fields(json, kTokenizerConfig);
  EBB_ASSIGN_OR_RETURN(bos_token_, TokenText(fields, "bos_token"));
  EBB_ASSIGN_OR_RETURN(eos_token_, TokenText(fields, "eos_token"));
  EBB_ASSIGN_OR_RETURN(settings_, ReadSettings(fields));
  if (!chat_template_.empty()) return absl::OkStatus();
  EBB_ASSIGN_OR_RETURN(chat_template_, TemplateText(fields));
  return absl::OkStatus();
}

// `owners`: which file each tensor should be in, or null for a single file.
absl::Status HuggingFaceFolder::OpenShard(const std::string& file, const Owners* owners) {
  EBB_ASSIGN_OR_RETURN(auto mapped, MappedFile::Open(Path(file)));
  auto tensors = ListSafetensors(mapped->bytes());
  if (!tensors.ok()) return AddPath(file, tensors.status());
  for (auto& [name, tensor] : *tensors) {
    if (owners != nullptr) {
      const auto owner = owners->find(name);
      if (owner == owners->end() || owner->second != file) {
        return absl::InvalidArgumentError(
            absl::StrCat(file, ": holds the tensor ", name.substr(0, 128), ", which ", kIndex, " does not place there"));
      }
    }
    tensors_.emplace(name, std::move(tensor));
  }
  files_.push_back(std::move(mapped));
  return absl::OkStatus();
}

// A file of the same folder and nothing else: an index could otherwise point anywhere.
bool IsShardName(const std::string& name) {
  return absl::EndsWith(name, ".safetensors") && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

absl::Status HuggingFaceFolder::OpenShards() {
  EBB_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(Path(kIndex), kIndexLimit));
  EBB_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kIndex));
  const JsonFields fields(json, kIndex);
  const Json* weight_map = fields.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object()) return fields.Wrong("weight_map", "is missing or not an object");
  Owners owners;
  std::set<std::string> shards;
  for (const auto& [name, file] : weight_map->items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (!IsShardName(shard)) return fields.Wrong("weight_map", "must name .safetensors files of the same folder");
    owners[name] = shard;
    shards.insert(shard);
  }
  for (const std::string& shard : shards) {
    if (!Has(shard)) return absl::NotFoundError(absl::StrCat(shard, ", which ", kIndex, " names, is missing"));
    EBB_RETURN_IF_ERROR(OpenShard(shard, &owners));
  }
  for (const auto& [name, shard] : owners) {
    if (tensors_.count(name) == 0) {
      return absl::InvalidArgumentError(absl::StrCat(kIndex, ": the tensor ", name.substr(0, 128), " is not in ", shard));
    }
  }
  return absl::OkStatus();
}

absl::Status HuggingFaceFolder::OpenTensors() {
  if (Has(kSingle)) return OpenShard(kSingle, nullptr);  // the order in which transformers looks
  if (Has(kIndex)) return OpenShards();
  return absl::NotFoundError(absl::StrCat("neither ", kSingle, " nor ", kIndex, " is there (pytorch_model.bin is not supported)"));
}

// The hub's cache keeps a model in models--ORGANIZATION--NAME/snapshots/REVISION: the revision would say little, and so would
// a link to that folder, such as /models/current in a container.
std::string FolderName(const std::string& folder) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(folder, error).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();  // a trailing slash
  for (const std::filesystem::path& place : {path, std::filesystem::weakly_canonical(path, error)}) {
    const std::string hub_name = place.parent_path().parent_path().filename().string();
    if (place.parent_path().filename() == "snapshots" && absl::StartsWith(hub_name, "models--")) {
      return hub_name.substr(hub_name.rfind("--") + 2);
    }
  }
  return path.filename().string();
}

absl::Status HuggingFaceFolder::Open() {
  if (!Has("config.json")) return absl::NotFoundError("config.json is missing; a model folder holds config.json, tokenizer.json and safetensors");
  EBB_ASSIGN_OR_RETURN(const std::string config, ReadTextFile(Path("config.json"), kConfigLimit));
  EBB_ASSIGN_OR_RETURN(const std::string generation, ReadIfThere("generation_config.json", kConfigLimit));
  EBB_ASSIGN_OR_RETURN(config_, ParseHuggingFaceConfig(config, generation));
  config_.name = DisplayName(FolderName(folder_));
  EBB_RETURN_IF_ERROR(OpenText());
  EBB_RETURN_IF_ERROR(OpenTensors());
  return CheckComplete();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHuggingFaceFolder(const std::string& folder) {
  auto checkpoint = std::make_unique<HuggingFaceFolder>(folder);
  EBB_RETURN_IF_ERROR(AddPath(folder, checkpoint->Open()));
  return checkpoint;
}

}  // namespace ebbinghaus::model
