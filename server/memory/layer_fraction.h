// Fractions of a number of layers, robust against the last bit of a decimal fraction (memory-spec
// 5).
#pragma once

#include <cmath>
#include <cstdint>

namespace ebbinghaus::memory {

// floor(fraction * layers), where 0.3 * 10 is 3. Requires: fraction in [0, 1].
inline uint32_t FloorFraction(double fraction, uint32_t layers) {
  return static_cast<uint32_t>(std::floor(fraction * layers + 1e-9));
}

// ceil(fraction * layers), where 0.7 * 10 is 7. Requires: fraction in [0, 1].
inline uint32_t CeilFraction(double fraction, uint32_t layers) {
  return static_cast<uint32_t>(std::ceil(fraction * layers - 1e-9));
}

// Half of the layers, the middle one of an odd number included.
inline uint32_t FirstHalf(uint32_t layers) { return layers / 2 + layers % 2; }

}  // namespace ebbinghaus::memory
