// From the proto's requests to the scheduler's. Ranges are the scheduler's business; what is checked here is only
// what the plain types cannot hold any more: enum numbers nobody knows and half-open ranges with an end missing.
#pragma once

#include <optional>

#include "ebbinghaus/v1/inference.pb.h"
#include "server/base/violations.h"
#include "server/scheduler/request.h"

namespace ebbinghaus::rpc {

// The request without deadline and arrival, which the call knows. Adds to `violations` under proto field paths; a
// field in violation is left unset.
scheduler::GenerationRequest FromProto(const v1::GenerateRequest& request, base::Violations& violations);

scheduler::ChatInput FromProto(const v1::Chat& chat);

v1::GenerationMode ToProto(base::GenerationMode mode);
v1::MemoryPreset ToProto(memory::Preset preset);

}  // namespace ebbinghaus::rpc
