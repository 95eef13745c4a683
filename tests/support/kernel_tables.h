// Every set of kernels that can run here: those of the processor, and AVX-512's everywhere, emulated.
#pragma once

#include <vector>

#include "server/kernels/kernels.h"

namespace ebbinghaus::kernels {

extern const KernelTable kEmulatedAvx512Kernels;  // emulated_avx512_kernels.cc

inline std::vector<const KernelTable*> Tables() {
  std::vector<const KernelTable*> tables;
  for (const Target target : kAllTargets) {
    if (Supports(target)) tables.push_back(KernelsFor(target));
  }
  tables.push_back(&kEmulatedAvx512Kernels);
  return tables;
}

inline const KernelTable& FastestKernels() { return *KernelsFor(*ChooseTarget("")); }

// vdpbf16ps multiplies bf16 by bf16; the others keep fp32 on the side of activations.
inline bool RoundsActivationsToBf16(const KernelTable& table) {
  return table.prepared_row_bytes(WeightForm::kBf16, 2) == 4;
}

}  // namespace ebbinghaus::kernels
