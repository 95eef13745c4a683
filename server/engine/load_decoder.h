// From what the user asked for to a decoder that this machine and this build can run.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/engine/engine.h"
#include "server/model/checkpoint.h"
#include "server/model/decoder.h"
#include "server/model/memory_check.h"

namespace ebbinghaus::engine {

struct LoadedDecoder {
  std::unique_ptr<model::Decoder> decoder;
  std::string weights, kv;  // the forms chosen, for people: "bf16", "int8-group32", ...
  std::string engine;       // "packed (avx2)", "reference"
};

// `memory_check` is asked before the weights are read. Errors: InvalidArgument naming the flag; those of the decoders' Load.
absl::StatusOr<LoadedDecoder> LoadDecoder(const model::Checkpoint& checkpoint, const EngineOptions& options,
                                          const model::MemoryCheck& memory_check = {});

}  // namespace ebbinghaus::engine
