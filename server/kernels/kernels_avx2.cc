#include "server/kernels/isa_avx2.h"
#include "server/kernels/kernels_impl.h"

namespace ebbinghaus::kernels {

extern const KernelTable kAvx2Kernels;
const KernelTable kAvx2Kernels = Kernels<Avx2>::Table("avx2");

}  // namespace ebbinghaus::kernels
