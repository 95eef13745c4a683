#include "server/kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ebbinghaus::kernels {

extern const KernelTable kPortableKernels;
#if defined(__x86_64__)
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;
#endif

namespace {

#if defined(__x86_64__)
// Clang 14 does not let __builtin_cpu_supports ask for it. Asked once: under a hypervisor CPUID takes long, and the sampler
// chooses its kernels for each token.
bool SupportsF16c() {
  static const bool supported = [] {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  }();
  return supported;
}
#endif

}  // namespace

const KernelTable* KernelsFor(Target target) {
  switch (target) {
    case Target::kPortable: return &kPortableKernels;
#if defined(__x86_64__)
    case Target::kAvx2: return &kAvx2Kernels;
    case Target::kAvx512: return &kAvx512Kernels;
#else
    default: return nullptr;
#endif
  }
  return nullptr;
}

bool Supports(Target target) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && SupportsF16c();
  switch (target) {
    case Target::kPortable: return true;
    case Target::kAvx2: return avx2;
    case Target::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
  }
  return false;
#else
  return target == Target::kPortable;
#endif
}

std::optional<Target> ChooseTarget(std::string_view name) {
  for (const Target target : {Target::kAvx512, Target::kAvx2, Target::kPortable}) {
    if (Supports(target) && (name.empty() || name == KernelsFor(target)->name)) return target;
  }
  return std::nullopt;
}

}  // namespace ebbinghaus::kernels
