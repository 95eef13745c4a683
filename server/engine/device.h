// Which device and number forms this machine and this libtorch can do.
#pragma once

#include <string>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "absl/status/statusor.h"

namespace ebbinghaus::engine {

struct Placement {
  c10::Device device = c10::kCPU;
  c10::ScalarType weights = c10::kFloat;
  c10::ScalarType kv = c10::kFloat;
};

// auto | cpu | cuda:N; auto: the first CUDA device, else the CPU. Errors: InvalidArgument naming the flag.
absl::StatusOr<c10::Device> ChooseDevice(const std::string& name);

// Of the reference engine. weights, kv: auto | f32 | bf16. Errors: InvalidArgument naming the flag.
absl::StatusOr<Placement> ChoosePlacement(c10::Device device, const std::string& weights, const std::string& kv);

std::string FormName(c10::ScalarType type);  // "f32", "bf16"

// For libtorch's operations and the BLAS beneath them, which has a thread pool of its own.
void SetComputeThreads(int threads);

}  // namespace ebbinghaus::engine
