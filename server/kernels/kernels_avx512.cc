#include "server/kernels/isa_avx512.h"
#include "server/kernels/kernels_impl.h"

namespace ebbinghaus::kernels {

extern const KernelTable kAvx512Kernels;
const KernelTable kAvx512Kernels = Kernels<Avx512>::Table("avx512");

}  // namespace ebbinghaus::kernels
