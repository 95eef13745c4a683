// The memory parameters as text: `--memory time_step=0.1,scope=per_layer,pinned=0-16`.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ebbinghaus/v1/inference.pb.h"
#include "google/protobuf/descriptor.h"

namespace ebbinghaus::client {

// Adds `key=value,...` to `memory`. Keys are the field names of v1.MemoryParameters, so a field
// added to the proto is understood here at once; enums go by their short names, `pinned` by
// begin-end (end excluded) and may come more than once. Errors: InvalidArgument naming the key and
// what it takes.
absl::Status ParseMemory(std::string_view text, v1::MemoryParameters& memory);

// The fields that are set, in the form that ParseMemory reads.
std::string FormatMemory(const v1::MemoryParameters& memory);

// The number of the enum value with this short name: "per_layer" for FORGET_SCOPE_PER_LAYER.
// Errors: InvalidArgument listing the names.
absl::StatusOr<int> ParseEnum(const google::protobuf::EnumDescriptor& type,
                              std::string_view short_name);

// The short name of an enum's number, or the number itself where it has none.
std::string ShortName(const google::protobuf::EnumDescriptor& type, int number);
std::string ShortName(v1::GenerationMode mode);
std::string ShortName(v1::FinishReason reason);

// What of `memory` this mode uses (memory-spec section 5): a server refuses the rest. Nothing for
// baseline.
v1::MemoryParameters MemoryForMode(v1::GenerationMode mode, const v1::MemoryParameters& memory);

}  // namespace ebbinghaus::client
