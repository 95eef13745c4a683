// Where memory meets attention: the decoder asks, per layer, how slots weigh and what is wanted of the attention, and
// hands that back. The decoder knows nothing of modes; the engine implements this.
#pragma once

#include <cstdint>
#include <limits>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/base/retention.h"

namespace ebbinghaus::model {

// How a layer's slots weigh in this pass; the arrays are [N], one entry per live slot, newborns included. Not looked at
// with Form::kNone. Only passes of one row have weights: the prompt is read at weight 1 (spec 2.2).
struct SlotMemory {
  base::AttentionWeighting weighting;
  const float* strength = nullptr;
  const base::Tick* last_reset = nullptr;
  base::Tick now = 0;
};

// What is wanted of a layer's attention in this pass. Mass is the mean over the query heads of the post-softmax
// probability, before any scaling of values (spec 3).
struct WantedMass {
  static constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  int64_t first_summed_row = kNone;  // rows of the pass from here on go into column sums
  float strong = 0;                  // mass from which on a row counts as strong
  bool last_row = false;             // the last row by itself
};

// Thread safety: called on the decoder's calling thread only.
class MemoryMediator {
 public:
  virtual ~MemoryMediator() = default;

  virtual SlotMemory Weights(uint32_t layer) = 0;
  virtual WantedMass Wanted(uint32_t layer) = 0;

  // Column sums of the wanted rows and, per column, the last row of the pass that was strong there, or -1: both [N].
  virtual void ObservedRows(uint32_t layer, absl::Span<const double> mass_sum, absl::Span<const int32_t> last_strong_row) = 0;
  // The last row's mass, [N].
  virtual void ObservedLastRow(uint32_t layer, absl::Span<const float> mass) = 0;
};

}  // namespace ebbinghaus::model
