#include "server/kernels/isa_portable.h"
#include "server/kernels/kernels_impl.h"

namespace ebbinghaus::kernels {

extern const KernelTable kPortableKernels;
const KernelTable kPortableKernels = Kernels<Portable>::Table("portable");

}  // namespace ebbinghaus::kernels
