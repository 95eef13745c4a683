// A model on disk, whatever its format: config, text side and tensors under their Hugging Face names.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/model/config.h"
#include "server/model/tensor.h"
#include "server/text/tokenizer.h"

namespace ebbinghaus::model {

// What builds the tokenizer: the text of a tokenizer.json, or a GGUF file's metadata.
using TokenizerSource = std::variant<std::string, text::GgufVocabulary>;

// Immutable; the views stay valid as long as the checkpoint.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const ModelConfig& config() const = 0;
  virtual const TokenizerSource& tokenizer() const = 0;
  virtual const std::string& chat_template() const = 0;  // empty: none
  // The special tokens' texts that chat templates refer to, empty where unknown.
  virtual const std::string& bos_token() const = 0;
  virtual const std::string& eos_token() const = 0;

  // The tensor of that name, such as "model.layers.0.self_attn.q_proj.weight".
  // Errors: NotFound naming it; InvalidArgument naming both shapes if it is not `shape`.
  absl::StatusOr<TensorView> Find(const std::string& name, const std::vector<int64_t>& shape) const;

  // Every tensor that the architecture needs is there in its shape. Errors: the first eight that are not, and how many more.
  absl::Status CheckComplete() const;

 private:
  virtual std::optional<TensorView> Look(const std::string& name) const = 0;
};

// A Hugging Face folder (config.json, safetensors) or a .gguf file. Errors say what was looked for.
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
