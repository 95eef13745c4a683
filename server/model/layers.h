// The parts of a decoder layer as plain libtorch operations: the reference that faster kernels are tested against.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"
#include "server/cache/kv_cache.h"
#include "server/model/memory_mediator.h"

namespace ebbinghaus::model {

// y = x W^T + b.
struct Linear {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out] or undefined

  at::Tensor operator()(const at::Tensor& x) const;  // [T, in] -> [T, out], in the weight's type
};

// x / rms(x) * weight over the last dimension, computed in fp32. Source: Zhang and Sennrich 2019.
struct RmsNorm {
  at::Tensor weight;  // [E] or [D], fp32
  double epsilon = 1e-6;

  at::Tensor operator()(const at::Tensor& x) const;  // fp32 -> fp32
};

// Rotary position embedding in the half-split layout of Hugging Face checkpoints. Source: Su et al. 2021.
class Rope {
 public:
  Rope() = default;
  Rope(const std::vector<float>& inverse_frequencies, at::Device device);

  struct Angles {
    at::Tensor cosine, sine;  // [T, 1, D / 2] fp32
  };
  // For consecutive positions first ... first + count - 1.
  Angles At(int64_t first, int64_t count) const;
  static at::Tensor Rotate(const at::Tensor& x, const Angles& angles);  // [T, heads, D] fp32

 private:
  at::Tensor inverse_frequencies_;  // [D / 2] fp32
};

// Attention of T new rows over every live slot of one layer, the newborns included (they are the last T slots).
// Each row sees all older slots and the newborns up to itself.
// queries: [T, H, D] fp32. Returns [T, H * D] fp32.
at::Tensor AttendOverSlots(const at::Tensor& queries, const cache::LayerCache& layer, uint32_t layer_index,
                           MemoryMediator* memory);

}  // namespace ebbinghaus::model
