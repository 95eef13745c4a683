// Where memory meets attention: the decoder asks, per layer, how slots weigh, and hands back what they received. The
// decoder knows nothing of modes; the engine implements this.
#pragma once

#include <optional>

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"
#include "server/base/retention.h"

namespace ebbinghaus::model {

// How a layer's slots weigh in this pass. `weights` is [N] fp32, one per live slot (newborns included), empty with
// Form::kNone.
struct SlotWeights {
  base::AttentionWeighting::Form form = base::AttentionWeighting::Form::kNone;
  absl::Span<const float> weights;
};

class MemoryMediator {
 public:
  virtual ~MemoryMediator() = default;

  // The weights of `live` slots in `layer`; the span stays valid until the next call.
  virtual SlotWeights Weights(uint32_t layer, uint32_t live) = 0;

  // The first row of this pass whose attention mass is wanted in `layer`; nullopt = none.
  virtual std::optional<int64_t> FirstObservedRow(uint32_t layer) = 0;

  // The mass of the wanted rows: [rows, N] fp32 on the CPU, contiguous; mean over the query heads of the post-softmax
  // probability, before any scaling of values (spec 3). Row r sees the slots of the tokens up to its own.
  virtual void Observed(uint32_t layer, const at::Tensor& mass) = 0;
};

}  // namespace ebbinghaus::model
