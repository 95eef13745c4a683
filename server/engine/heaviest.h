// The heaviest positions of one row of attention.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "server/base/engine.h"
#include "server/base/ids.h"

namespace ebbinghaus::engine {

struct HeaviestPositions {
  std::vector<base::Position> positions;
  std::vector<float> weights;  // same length, falling; of equal ones the lower position comes first
};

// The `top_k` heaviest slots of `mass`, or all for 0. `positions`: by slot; empty where slots are positions. In linear time,
// since for all positions of a long context a comparison sort would hold up everybody's step.
// What is no positive mass counts as 0. Requires: positions are distinct.
HeaviestPositions Heaviest(absl::Span<const float> mass, absl::Span<const base::Position> positions, uint32_t top_k);

}  // namespace ebbinghaus::engine
