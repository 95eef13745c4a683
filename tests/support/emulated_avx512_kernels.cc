// The AVX-512 kernels over plain C++ (support/emulated_avx512.h).
#define EBBINGHAUS_AVX512_INTRINSICS "tests/support/emulated_avx512.h"
#include "server/kernels/isa_avx512.h"
#include "server/kernels/kernels_impl.h"

namespace ebbinghaus::kernels {

extern const KernelTable kEmulatedAvx512Kernels;
const KernelTable kEmulatedAvx512Kernels = Kernels<Avx512>::Table("emulated_avx512");

}  // namespace ebbinghaus::kernels
