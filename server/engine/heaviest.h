// The heaviest positions of one row of attention.
#pragma once

#include <cstdint>

#include "absl/types/span.h"
#include "server/base/engine.h"
#include "server/base/ids.h"

namespace ebbinghaus::engine {

// The `top_k` heaviest slots of one layer's `mass`, or all for 0; of equal ones the lower position comes first. What is no
// positive mass counts as 0. `positions`: by slot; empty where slots are positions. In linear time, since for all positions of a
// long context a comparison sort would hold up everybody's step. Requires: positions are distinct.
base::AttentionRow Heaviest(uint32_t layer, absl::Span<const float> mass, absl::Span<const base::Position> positions,
                            uint32_t top_k);

}  // namespace ebbinghaus::engine
