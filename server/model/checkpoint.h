// A model on disk, whatever its format: config, text side and tensors under their Hugging Face names.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jinja/value.h"
#include "server/model/config.h"
#include "server/model/tensor.h"
#include "server/text/tokenizer.h"

namespace ebbinghaus::model {

// What builds the tokenizer: the text of a tokenizer.json, or a GGUF file's metadata.
using TokenizerSource = std::variant<std::string, text::GgufVocabulary>;

// What chat templates a model comes with, and what they may refer to.
struct ChatTemplates {
  std::map<std::string, std::string> by_name;  // "default", "tool_use", ...
  jinja::Dict special_tokens;                  // pad_token, image_token, ..., beside bos and eos
  std::string problem;                         // why templates could not be read; empty: none
};

// Immutable; the views stay valid as long as the checkpoint. Thread safe.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerSource& tokenizer() const = 0;
  virtual const std::string& chat_template() const = 0;  // empty: none
  // All templates, the one above as "default".
  virtual const ChatTemplates& chat_templates() const;
  // The special tokens' texts that chat templates refer to, empty where unknown.
  virtual const std::string& bos_token() const = 0;
  virtual const std::string& eos_token() const = 0;
  // What the files beside a tokenizer.json say of it.
  virtual text::TokenizerSettings tokenizer_settings() const { return {}; }

  // The tensor of that name, such as "model.layers.0.self_attn.q_proj.weight". With tied embeddings "lm_head.weight" is the
  // embedding.
  // Errors: NotFound naming it; InvalidArgument naming both shapes if it is not `shape`, or its type and the supported ones.
  absl::StatusOr<TensorView> Find(const std::string& name, const std::vector<int64_t>& shape) const;

  // Every tensor that the architecture needs is there in its shape and in a supported type.
  // Errors: InvalidArgument with the count, and what is wrong with the first eight.
  absl::Status CheckComplete() const;

 private:
  virtual const StoredTensor* Look(const std::string& name) const = 0;  // nullptr when absent
  virtual uint32_t PermutedHeads(const std::string&) const { return 0; }  // TensorView::permuted_heads
  virtual std::string Describe(const std::string& name) const { return name; }  // for messages
};

// A Hugging Face folder (config.json, tokenizer.json, safetensors in one file or in parts, with or without an index), a model's
// folder in the hub's cache, a .gguf file or any part of one (NAME-00001-of-00003.gguf), or a folder with one of those in it. All
// that the decoder needs has been checked (CheckComplete), except for the values of the weights.
// The files stay mapped, not read: truncating one of them while it is in use kills the process with SIGBUS. Replacing a file
// (write another, rename it) is safe.
// Errors: NotFound that says what was looked for; InvalidArgument that names the file and what is wrong with it.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenCheckpoint(const std::string& path);

// The two formats.
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenHuggingFaceFolder(const std::string& folder);
absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufFile(const std::string& path);

struct TensorRequirement {
  std::string name;
  std::vector<int64_t> shape;
};
// Names and shapes of every tensor that the decoder loads for this config.
std::vector<TensorRequirement> RequiredTensors(const ModelConfig& config);

}  // namespace ebbinghaus::model
