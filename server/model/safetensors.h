// The safetensors format: an 8-byte length, a JSON header, then the tensors' bytes.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/model/tensor.h"

namespace ebbinghaus::model {

// Every tensor of one file, by name; the views point into `bytes`. Types: F32, F16, BF16.
// Errors: InvalidArgument for anything the format forbids (lengths, offsets out of range or overlapping, bad JSON, sizes that
// do not match) and for other types, naming the tensor.
absl::StatusOr<std::map<std::string, TensorView>> ReadSafetensors(absl::Span<const std::byte> bytes);

}  // namespace ebbinghaus::model
