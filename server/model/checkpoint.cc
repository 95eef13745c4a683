#include "server/model/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"
#include "server/model/checkpoint_internal.h"
#include "server/model/mapped_file.h"
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

const ChatTemplates& Checkpoint::chat_templates() const {
  static const auto* none = new ChatTemplates;
  return *none;
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

std::vector<std::string> FilesOf(const std::string& folder) {
  constexpr size_t kMaxFiles = 20'000;
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
    if (names.size() == kMaxFiles) break;
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string ListFolder(const std::string& folder) {
  constexpr size_t kShown = 8;
  std::vector<std::string> names = FilesOf(folder);
  if (names.empty()) return "nothing";
  const size_t count = names.size();
  names.resize(std::min(count, kShown));
  for (std::string& name : names) name = DisplayName(std::move(name));
  return absl::StrCat(absl::StrJoin(names, ", "), count > kShown ? absl::StrCat(" and ", count - kShown, " more") : "");
}

std::optional<PartName> ParsePartName(std::string_view name, std::string_view extension) {
  constexpr size_t kDigits = 5;
  constexpr std::string_view kOf = "-of-";
  const size_t tail = 1 + kDigits + kOf.size() + kDigits + extension.size();
  if (name.size() < tail || name.substr(name.size() - extension.size()) != extension) return std::nullopt;
  const std::string_view stem = name.substr(0, name.size() - tail);
  const std::string_view number = name.substr(stem.size() + 1, kDigits);
  const std::string_view count = name.substr(stem.size() + 1 + kDigits + kOf.size(), kDigits);
  PartName part{.stem = std::string(stem)};
  if (name[stem.size()] != '-' || name.substr(stem.size() + 1 + kDigits, kOf.size()) != kOf ||
      !absl::SimpleAtoi(absl::string_view(number.data(), number.size()), &part.number) ||
      !absl::SimpleAtoi(absl::string_view(count.data(), count.size()), &part.count)) {
    return std::nullopt;
  }
  // Also what SimpleAtoi takes and no name has, such as blanks.
  if (part.number < 1 || part.number > part.count || part.count > 9999 ||
      PartFileName(part.stem, part.number, part.count, extension) != name) {
    return std::nullopt;
  }
  return part;
}

std::string PartFileName(const std::string& stem, uint32_t number, uint32_t count, std::string_view extension) {
  return absl::StrFormat("%s-%05d-of-%05d%s", stem, number, count, extension);
}

namespace {

namespace fs = std::filesystem;

// The GGUF file of a folder without safetensors, of several parts the first; empty if there is none.
absl::StatusOr<std::string> OnlyGgufFile(const std::string& folder) {
  std::vector<std::string> found;
  for (const std::string& name : FilesOf(folder)) {
    if (!absl::EndsWithIgnoreCase(name, ".gguf")) continue;
    const std::optional<PartName> part = ParsePartName(name, ".gguf");
    const bool of_known_set = part && std::any_of(found.begin(), found.end(), [&](const std::string& other) {
      const std::optional<PartName> first = ParsePartName(other, ".gguf");
      return first && first->stem == part->stem && first->count == part->count;
    });
    if (!of_known_set) found.push_back(name);
  }
  if (found.empty()) return std::string();
  if (found.size() == 1) return (fs::path(folder) / found.front()).string();
  return absl::InvalidArgumentError(absl::StrCat(folder, ": holds ", found.size(), " .gguf files (", found[0], ", ", found[1],
                                                 found.size() > 2 ? ", ..." : "", "); name one of them"));
}

bool HasSafetensors(const std::string& folder) {
  const std::vector<std::string> names = FilesOf(folder);
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return absl::EndsWith(name, ".safetensors") || absl::EndsWith(name, ".safetensors.index.json");
  });
}

// A model's folder in the hub's cache holds its revisions: the one that refs/main names, else the only one. `path` where it is
// no such folder.
std::string Snapshot(const std::string& path) {
  std::error_code error;
  const fs::path snapshots = fs::path(path) / "snapshots";
  if (fs::exists(fs::path(path) / "config.json", error) || !fs::is_directory(snapshots, error)) return path;
  const absl::StatusOr<std::string> main = ReadTextFile((fs::path(path) / "refs" / "main").string(), 256);
  if (main.ok()) {
    const std::string revision(absl::StripAsciiWhitespace(*main));
    const bool is_name = !revision.empty() && revision.find('/') == revision.npos && revision != "." && revision != "..";
    if (is_name && fs::is_directory(snapshots / revision, error)) return (snapshots / revision).string();
  }
  const std::vector<std::string> revisions = FilesOf(snapshots.string());
  return revisions.size() == 1 ? (snapshots / revisions.front()).string() : path;
}

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenFolder(const std::string& path) {
  std::error_code error;
  if (fs::directory_iterator(path, error); error) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": ", error.message()));
  }
  const bool has_config = fs::exists(fs::path(path) / "config.json", error);
  if (has_config && HasSafetensors(path)) return OpenHuggingFaceFolder(path);
  EBB_ASSIGN_OR_RETURN(const std::string gguf, OnlyGgufFile(path));
  if (!gguf.empty()) return OpenGgufFile(gguf);
  if (has_config) return OpenHuggingFaceFolder(path);  // which says what is missing
  return absl::NotFoundError(
      absl::StrCat(path, ": holds neither config.json nor a .gguf file, but ", ListFolder(path)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::directory) return OpenFolder(Snapshot(path));
  if (fs::exists(status)) return OpenGgufFile(path);
  if (error && status.type() != fs::file_type::not_found) {
    return absl::PermissionDeniedError(absl::StrCat(path, ": ", error.message()));
  }
  return absl::NotFoundError(
      absl::StrCat(path, ": no such file or folder; a model is a Hugging Face folder with config.json or a .gguf file"));
}

}  // namespace ebbinghaus::model
