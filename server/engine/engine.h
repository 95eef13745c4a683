// The engine behind base::Engine: sequences with their K/V and memory, one decode path for every mode.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/engine.h"
#include "server/model/checkpoint.h"

namespace ebbinghaus::engine {

struct EngineOptions {
  std::string weights = "auto";  // auto | f32 | bf16; auto: bf16 where the device computes in it, else f32
  std::string kv = "auto";       // auto | f32 | bf16; auto: as the weights
  std::string device = "auto";   // auto | cpu | cuda:N; auto: the first CUDA device, else the CPU
  int threads = 1;               // for libtorch's CPU operations
  uint64_t kv_memory_bytes = 0;  // 0: half of what the weights leave of the machine's or cgroup's memory
  uint32_t max_context = 0;      // 0: the model's; larger than the model's is an error
  std::string model_name;        // 0 length: the checkpoint's
};

// Loads the weights. Errors: InvalidArgument for options this machine or build cannot do, and whatever the checkpoint says.
absl::StatusOr<std::unique_ptr<base::Engine>> MakeEngine(const model::Checkpoint& checkpoint, const EngineOptions& options);

}  // namespace ebbinghaus::engine
