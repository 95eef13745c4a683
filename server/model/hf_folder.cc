// Checkpoints as Hugging Face lays them out: config.json, tokenizer.json and one or many safetensors files.
#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
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
  const ChatTemplates& chat_templates() const override { return templates_; }
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
  bool IsLink(const std::string& file) const {
    std::error_code error;
    return std::filesystem::is_symlink(Path(file), error);
  }
  // Empty when the file is not there.
  absl::StatusOr<std::string> ReadIfThere(const std::string& file, size_t limit) const {
    if (!Has(file)) return std::string();
    return ReadTextFile(Path(file), limit);
  }

  absl::Status OpenText();
  absl::StatusOr<Owners> ReadIndex() const;
  absl::Status OpenShard(const std::string& file, const Owners& owners);
  absl::Status OpenIndexedShards();
  absl::Status CheckIndex(const Owners& owners) const;
  void FindTemplates(const Json& tokenizer_config);
  absl::Status OpenTensors();
  absl::Status Missing(const std::string& file, const std::string& what) const;

  const std::string folder_;
  ModelConfig config_;
  TokenizerSource tokenizer_;
  text::TokenizerSettings settings_;
  std::string chat_template_, bos_token_, eos_token_;
  ChatTemplates templates_;
  std::vector<std::shared_ptr<const MappedFile>> files_;
  std::map<std::string, StoredTensor> tensors_;
  Owners found_in_;  // which file each of them is from
};

// A token is written as a string or as an object with its `content`. Null for anything else.
const std::string* TextOf(const Json& token) {
  const auto content = token.find("content");  // of what is no object, none
  const Json& text = content != token.end() ? *content : token;
  return text.is_string() ? &text.get_ref<const std::string&>() : nullptr;
}

// The same of a field, whose wrong forms are errors.
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
  EBB_ASSIGN_OR_RETURN(const std::string pad, TokenText(fields, "pad_token"));
  for (const std::string& text : {settings.bos, settings.eos, pad}) {
    if (!text.empty()) settings.control_texts.push_back(text);
  }
  const auto add = [&](const Json& token) {
    if (const std::string* text = TextOf(token)) settings.control_texts.push_back(*text);
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

// A file or an entry that cannot be read is a problem of chats alone.
void Note(const absl::Status& status, ChatTemplates& templates) {
  if (!status.ok() && templates.problem.empty()) templates.problem = std::string(status.message());
}

// One template, or several with names. What is known already stays.
void AddTemplates(const JsonFields& fields, ChatTemplates& templates) {
  const Json* json = fields.Find("chat_template");
  if (json == nullptr) return;
  const absl::Status wrong = fields.Wrong("chat_template", "must be a string or a list of named templates");
  if (json->is_string()) {
    templates.by_name.emplace("default", json->get<std::string>());
  } else if (json->is_object()) {
    for (const auto& [name, source] : json->items()) {
      if (source.is_string()) templates.by_name.emplace(name, source.get<std::string>());
    }
  } else if (json->is_array()) {
    for (const Json& named : *json) {
      const bool whole = named.is_object() && named.value("name", Json()).is_string() && named.value("template", Json()).is_string();
      if (whole) templates.by_name.emplace(named["name"].get<std::string>(), named["template"].get<std::string>());
      else Note(wrong, templates);
    }
  } else {
    Note(wrong, templates);
  }
}

// Every special token is a variable of the template.
void AddToken(const std::string& name, const Json& json, ChatTemplates& templates) {
  const std::string* text = TextOf(json);
  if (text == nullptr || templates.special_tokens.Find(name) != nullptr) return;
  templates.special_tokens.Set(name, jinja::Value::Of(*text));
}

void AddTokens(const Json& json, ChatTemplates& templates) {
  for (const auto& [name, token] : json.items()) {
    if (absl::EndsWith(name, "_token")) AddToken(name, token, templates);
    if (name != "extra_special_tokens" || !token.is_object()) continue;
    for (const auto& [extra, text] : token.items()) AddToken(extra, text, templates);
  }
}

// In the order in which transformers looks: files of their own, then what the tokenizer's config says.
void HuggingFaceFolder::FindTemplates(const Json& tokenizer_config) {
  const auto add = [&](const std::string& name, const std::string& file) {
    absl::StatusOr<std::string> source = ReadIfThere(file, kConfigLimit);
    Note(source.status(), templates_);
    if (source.ok() && !source->empty()) templates_.by_name.emplace(name, *std::move(source));
  };
  add("default", "chat_template.jinja");
  for (const std::filesystem::path name : FilesOf(Path("additional_chat_templates"))) {
    if (name.extension() == ".jinja") add(name.stem().string(), ("additional_chat_templates" / name).string());
  }
  for (const char* file : {"chat_template.json", "special_tokens_map.json"}) {
    const absl::StatusOr<std::string> text = ReadIfThere(file, kConfigLimit);
    const absl::StatusOr<Json> json = text.ok() && !text->empty() ? ParseJsonObject(*text, file) : absl::StatusOr<Json>(Json::object());
    Note(!text.ok() ? text.status() : json.status(), templates_);
    if (!json.ok()) continue;
    AddTemplates(JsonFields(*json, file), templates_);
    AddTokens(*json, templates_);
  }
  AddTemplates(JsonFields(tokenizer_config, kTokenizerConfig), templates_);
  AddTokens(tokenizer_config, templates_);
  const auto usual = templates_.by_name.find("default");
  if (usual != templates_.by_name.end()) chat_template_ = usual->second;
}

absl::Status HuggingFaceFolder::OpenText() {
  if (!Has("tokenizer.json")) return Missing("tokenizer.json", " (a tokenizer.model alone is not supported)");
  EBB_ASSIGN_OR_RETURN(tokenizer_, ReadTextFile(Path("tokenizer.json"), kTokenizerLimit));
  EBB_ASSIGN_OR_RETURN(const std::string text, ReadIfThere(kTokenizerConfig, kIndexLimit));
  Json json = Json::object();
  if (!text.empty()) {
    EBB_ASSIGN_OR_RETURN(json, ParseJsonObject(text, kTokenizerConfig));
  }
  const JsonFields fields(json, kTokenizerConfig);
  EBB_ASSIGN_OR_RETURN(bos_token_, TokenText(fields, "bos_token"));
  EBB_ASSIGN_OR_RETURN(eos_token_, TokenText(fields, "eos_token"));
  EBB_ASSIGN_OR_RETURN(settings_, ReadSettings(fields));
  FindTemplates(json);
  const auto token = [&](const char* name, std::string& text_of) {
    const jinja::Value* known = templates_.special_tokens.Find(name);
    if (text_of.empty() && known != nullptr) text_of = known->text()->bytes();
  };
  token("bos_token", bos_token_);
  token("eos_token", eos_token_);
  return absl::OkStatus();
}

absl::Status HuggingFaceFolder::Missing(const std::string& file, const std::string& what) const {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::read_symlink(Path(file), error);
  if (!error) {
    return absl::NotFoundError(absl::StrCat(file, ": a link to ", target.string(),
                                            ", which is not there; the download is not complete"));
  }
  return absl::NotFoundError(absl::StrCat(file, what, " is missing; the folder holds ", ListFolder(folder_)));
}

// `owners`: which file each tensor should be in; those that it does not name may be anywhere.
absl::Status HuggingFaceFolder::OpenShard(const std::string& file, const Owners& owners) {
  if (!Has(file)) return Missing(file, "");
  EBB_ASSIGN_OR_RETURN(auto mapped, MappedFile::Open(Path(file)));
  auto tensors = ListSafetensors(mapped->bytes());
  if (!tensors.ok()) return AddPath(file, tensors.status());
  for (auto& [name, tensor] : *tensors) {
    const auto owner = owners.find(name);
    const bool placed_here = owner != owners.end() && owner->second == file;
    const auto [other, is_new] = found_in_.emplace(name, file);
    if (!is_new && owner == owners.end()) {
      return absl::InvalidArgumentError(absl::StrCat("the tensor ", name.substr(0, 128), " is both in ", other->second, " and in ",
                                                     file, ", and no ", kIndex, " says which counts"));
    }
    if (!is_new && !placed_here) continue;
    tensors_[name] = std::move(tensor);
    other->second = file;
  }
  files_.push_back(std::move(mapped));
  return absl::OkStatus();
}

// A file of the same folder and nothing else: an index could otherwise point anywhere.
bool IsShardName(const std::string& name) {
  return absl::EndsWith(name, ".safetensors") && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

absl::StatusOr<Owners> HuggingFaceFolder::ReadIndex() const {
  EBB_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(Path(kIndex), kIndexLimit));
  EBB_ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text, kIndex));
  const JsonFields fields(json, kIndex);
  const Json* weight_map = fields.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object()) return fields.Wrong("weight_map", "is missing or not an object");
  Owners owners;
  for (const auto& [name, file] : weight_map->items()) {
    const std::string shard = file.is_string() ? file.get<std::string>() : "";
    if (!IsShardName(shard)) return fields.Wrong("weight_map", "must name .safetensors files of the same folder");
    owners[name] = shard;
  }
  return owners;
}

// What an index places somewhere and the model needs has to be there; what the model does not need may be missing.
absl::Status HuggingFaceFolder::CheckIndex(const Owners& owners) const {
  for (const TensorRequirement& needed : RequiredTensors(config_)) {
    const auto owner = owners.find(needed.name);
    if (owner != owners.end() && tensors_.count(needed.name) == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(kIndex, ": the tensor ", needed.name, " is not in ", owner->second, ", nor in another file that it names"));
    }
  }
  return absl::OkStatus();
}

absl::Status HuggingFaceFolder::OpenIndexedShards() {
  EBB_ASSIGN_OR_RETURN(const Owners owners, ReadIndex());
  std::set<std::string> shards, missing;
  for (const auto& [name, shard] : owners) {
    shards.insert(shard);
    if (!Has(shard)) missing.insert(shard);
  }
  if (missing.size() == 1) return Missing(*missing.begin(), absl::StrCat(", which ", kIndex, " names,"));
  if (!missing.empty()) {
    return absl::NotFoundError(absl::StrCat(
        missing.size(), " of the ", shards.size(), " files that ", kIndex, " names are missing, such as ", *missing.begin(),
        "; the folder holds ", ListFolder(folder_), "; finish the download, or delete the index if it belongs to another version"));
  }
  for (const std::string& shard : shards) EBB_RETURN_IF_ERROR(OpenShard(shard, owners));
  return CheckIndex(owners);
}

// The safetensors files of a folder without index: a whole set of "NAME-00001-of-00003.safetensors", or a single file.
// Adapters are no models. Errors: NotFound that says what is there.
absl::StatusOr<std::vector<std::string>> ShardsWithoutIndex(const std::string& folder) {
  std::vector<std::string> found;
  for (const std::string& name : FilesOf(folder)) {
    if (absl::EndsWith(name, ".safetensors") && !absl::StartsWith(name, "adapter_")) found.push_back(name);
  }
  if (found.size() == 1 && !ParsePartName(found.front(), ".safetensors")) return found;
  if (const std::optional<PartName> part = found.empty() ? std::nullopt : ParsePartName(found.front(), ".safetensors")) {
    std::vector<std::string> parts, missing;
    for (uint32_t number = 1; number <= part->count; ++number) {
      parts.push_back(PartFileName(part->stem, number, part->count, ".safetensors"));
      if (!std::binary_search(found.begin(), found.end(), parts.back())) missing.push_back(parts.back());
    }
    if (missing.empty() && parts.size() == found.size()) return parts;
    if (!missing.empty()) {
      return absl::NotFoundError(absl::StrCat(missing.size(), " of ", part->count, " parts are missing, such as ", missing.front(),
                                              "; the folder holds ", ListFolder(folder)));
    }
  }
  return absl::NotFoundError(absl::StrCat("neither ", kSingle, " nor ", kIndex, " is there; the folder holds ", ListFolder(folder),
                                          "; only safetensors are read: convert pytorch_model.bin and the like "
                                          "(transformers: save_pretrained), merge adapters into their model"));
}

absl::Status HuggingFaceFolder::OpenTensors() {
  if (Has(kSingle)) return OpenShard(kSingle, {});  // the order in which transformers looks
  if (Has(kIndex)) return OpenIndexedShards();
  for (const char* file : {kSingle, kIndex}) {
    if (IsLink(file)) return Missing(file, "");
  }
  EBB_ASSIGN_OR_RETURN(const std::vector<std::string> shards, ShardsWithoutIndex(folder_));
  for (const std::string& shard : shards) EBB_RETURN_IF_ERROR(OpenShard(shard, {}));
  return absl::OkStatus();
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
  if (!Has("config.json")) return Missing("config.json", " (a model folder holds config.json, tokenizer.json and safetensors)");
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
