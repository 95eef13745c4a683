// The engine behind base::Engine: sequences with their K/V and memory, one decode path for every mode.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/engine.h"
#include "server/engine/kv_memory.h"
#include "server/model/checkpoint.h"

namespace ebbinghaus::engine {

struct LoadedDecoder;  // load_decoder.h

struct EngineOptions {
  std::string engine = "auto";   // auto | packed | reference; auto: packed on the CPU
  std::string weights = "auto";  // packed: auto | f32 | bf16 | int8 | int4 (model::WeightChoice); reference: auto | f32 | bf16
  std::string kv = "auto";       // packed: auto | f32 | bf16 | int8; reference: auto | f32 | bf16
  std::string device = "auto";   // auto | cpu | cuda:N; auto: the first CUDA device, else the CPU
  std::string kernels = "auto";  // of the packed engine: auto | portable | avx2 | avx512
  bool deterministic = false;    // refuse an engine whose results may depend on what else runs
  int threads = 1;
  uint64_t kv_memory_bytes = 0;  // 0: what weights and workspace leave of 80 % of the memory there is
  uint64_t memory_limit_bytes = 0;  // there is; 0: what base::MemoryLimitBytes says
  uint64_t state_allowance_bytes = kStateAllowanceBytes;
  uint32_t max_context = 0;      // 0: the model's; larger than the model's is an error
  bool prefix_cache = true;      // reuse K/V of prompts that begin alike
  std::string model_name = "";        // 0 length: the checkpoint's
  std::function<void(uint64_t done_bytes, uint64_t all_bytes)> progress = {};  // while weights are packed; may be empty
};

// Loads the weights. Errors: InvalidArgument for options this machine or build cannot do, and whatever the checkpoint says.
absl::StatusOr<std::unique_ptr<base::Engine>> MakeEngine(const model::Checkpoint& checkpoint, const EngineOptions& options);

// What MakeEngine would refuse, but for the values of the weights, which are not read.
absl::Status CheckEngine(const model::Checkpoint& checkpoint, const EngineOptions& options);

// Around a decoder that is loaded already, such as one that a bench or a test has wrapped. Of the options only those about
// K/V memory, prefix cache, context and name are looked at. Errors: InvalidArgument for them.
absl::StatusOr<std::unique_ptr<base::Engine>> MakeEngine(LoadedDecoder loaded, const EngineOptions& options);

}  // namespace ebbinghaus::engine
