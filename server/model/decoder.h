// The decoder-only transformer, written once for every supported architecture and driven by its ModelConfig:
// Llama, Mistral, Qwen2 (q/k/v bias) and Qwen3 (q/k norm).
#pragma once

#include <memory>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/cache/kv_cache.h"
#include "server/model/checkpoint.h"
#include "server/model/config.h"
#include "server/model/layers.h"
#include "server/model/memory_mediator.h"

namespace ebbinghaus::model {

struct DecoderOptions {
  at::Device device = at::kCPU;
  at::ScalarType weights = at::kFloat;  // kFloat or kBFloat16; norms and everything between matrices are fp32
};

// Immutable after loading; the state of a sequence is in its KvCache.
class Decoder {
 public:
  // Errors: what Checkpoint::Find says of a missing or misshapen tensor.
  static absl::StatusOr<std::unique_ptr<Decoder>> Load(const Checkpoint& checkpoint, const DecoderOptions& options);

  // One pass over consecutive tokens, the first of which has position `first`: appends their K/V to every layer of
  // `cache` and returns the logits of the last `logit_rows` rows, [logit_rows, V] fp32 on the CPU.
  // `memory` may be null (plain attention, nothing observed).
  // Requires: 1 <= logit_rows <= tokens.size(); ids below the vocabulary; with more than one token every slot of
  // the cache is older than `first`.
  // Errors: ResourceExhausted when the page pool is full; the sequence is then unusable.
  absl::StatusOr<at::Tensor> Forward(absl::Span<const base::TokenId> tokens, base::Position first, cache::KvCache& cache,
                                     MemoryMediator* memory, int64_t logit_rows = 1) const;

  const ModelConfig& config() const { return config_; }
  uint64_t weight_bytes() const;  // resident

 private:
  struct Layer {
    RmsNorm input_norm, post_attention_norm, query_norm, key_norm;  // the last two: Qwen3 only
    Linear query, key, value, output, gate, up, down;
  };

  Decoder(ModelConfig config, DecoderOptions options);
  absl::StatusOr<at::Tensor> Attention(const Layer& layer, uint32_t index, const at::Tensor& x,
                                       const Rope::Angles& angles, cache::LayerCache& cache, MemoryMediator* memory) const;

  const ModelConfig config_;
  const DecoderOptions options_;
  Rope rope_;
  at::Tensor embedding_;  // [V, E]
  std::vector<Layer> layers_;
  RmsNorm norm_;
  Linear head_;  // shares embedding_ where they are tied
};

}  // namespace ebbinghaus::model
