// The decoder-only transformer as plain libtorch operations: the reference that faster paths are tested against, and what
// runs on devices other than the CPU. Written once for every supported architecture and driven by its ModelConfig:
// Llama, Mistral, Qwen2 (q/k/v bias) and Qwen3 (q/k norm).
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "server/model/checkpoint.h"
#include "server/model/decoder.h"
#include "server/model/layers.h"
#include "server/model/memory_check.h"

namespace ebbinghaus::model {

struct ReferenceOptions {
  at::Device device = at::kCPU;
  at::ScalarType weights = at::kFloat;  // kFloat or kBFloat16; norms and everything between matrices are fp32
  at::ScalarType kv = at::kFloat;       // kFloat or kBFloat16
  int64_t page_tokens = 64;
  const kernels::KernelTable* kernels = kernels::KernelsFor(kernels::Target::kPortable);  // beside libtorch's operations
  MemoryCheck memory_check = {};  // before weights are loaded; may be empty
};

class ReferenceDecoder final : public Decoder {
 public:
  // Errors: what Checkpoint::Find says of a missing or misshapen tensor, and what the memory check says.
  static absl::StatusOr<std::unique_ptr<ReferenceDecoder>> Load(const Checkpoint& checkpoint, const ReferenceOptions& options);

  const ModelConfig& config() const override { return config_; }
  cache::PageShape page_shape() const override;
  uint64_t weight_bytes() const override;
  const kernels::KernelTable& kernels() const override { return *options_.kernels; }
  bool batches() const override { return false; }
  void Forward(absl::Span<Segment> segments) override;

 private:
  struct Layer {
    RmsNorm input_norm, post_attention_norm, query_norm, key_norm;  // the last two: Qwen3 only
    Linear query, key, value, output, gate, up, down;
  };

  ReferenceDecoder(ModelConfig config, ReferenceOptions options);
  absl::Status Run(Segment& segment) const;
  absl::StatusOr<at::Tensor> Attention(const Layer& layer, uint32_t index, const at::Tensor& x,
                                       const Rope::Angles& angles, cache::LayerCache& cache, MemoryMediator* memory) const;

  const ModelConfig config_;
  const ReferenceOptions options_;
  Rope rope_;
  at::Tensor embedding_;  // [V, E]
  std::vector<Layer> layers_;
  RmsNorm norm_;
  Linear head_;  // shares embedding_ where they are tied
};

}  // namespace ebbinghaus::model
