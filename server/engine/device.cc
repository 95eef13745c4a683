#include "server/engine/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

// OpenBLAS keeps its own pool; weak, because libtorch may be built on another BLAS.
extern "C" void openblas_set_num_threads(int) __attribute__((weak));

namespace ebbinghaus::engine {
namespace {

bool CpuComputesInBf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16");
#else
  return false;
#endif
}

absl::StatusOr<c10::ScalarType> ChooseForm(const std::string& flag, const std::string& name, c10::ScalarType automatic) {
  if (name == "auto") return automatic;
  if (name == "f32") return c10::kFloat;
  if (name == "bf16") return c10::kBFloat16;
  return absl::InvalidArgumentError(absl::StrCat(flag, " ", name, ": the reference engine takes auto, f32 or bf16"));
}

}  // namespace

absl::StatusOr<c10::Device> ChooseDevice(const std::string& name) {
  const bool cuda = at::globalContext().hasCUDA();
  if (name == "cpu" || (name == "auto" && !cuda)) return c10::Device(c10::kCPU);
  if (name == "auto") return c10::Device(c10::kCUDA, 0);
  int index = 0;
  if (!absl::StartsWith(name, "cuda:") || !absl::SimpleAtoi(name.substr(5), &index) || index < 0 || index > 127) {
    return absl::InvalidArgumentError(absl::StrCat("--device ", name, ": must be auto, cpu or cuda:N"));
  }
  if (!cuda) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device ", name, ": the installed libtorch has no CUDA, or the machine no such device; use cpu"));
  }
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
}

absl::StatusOr<Placement> ChoosePlacement(c10::Device device, const std::string& weights, const std::string& kv) {
  Placement placement;
  placement.device = device;
  const bool fast_bf16 = placement.device.is_cuda() || CpuComputesInBf16();
  EBB_ASSIGN_OR_RETURN(placement.weights, ChooseForm("--weights", weights, fast_bf16 ? c10::kBFloat16 : c10::kFloat));
  EBB_ASSIGN_OR_RETURN(placement.kv, ChooseForm("--kv", kv, placement.weights));
  return placement;
}

std::string FormName(c10::ScalarType type) { return type == c10::kBFloat16 ? "bf16" : "f32"; }

void SetComputeThreads(int threads) {
  at::set_num_threads(threads);
  if (openblas_set_num_threads != nullptr) openblas_set_num_threads(threads);
}

}  // namespace ebbinghaus::engine
