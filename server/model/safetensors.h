// The safetensors format: an 8-byte length, a JSON header, then the tensors' bytes.
// Source: the format section of the huggingface/safetensors README.
#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/model/tensor.h"

namespace ebbinghaus::model {

// Every tensor of one file, by name; they point into `bytes`. F32, F16 and BF16 are supported types; the others are listed
// without one. The format promises no alignment.
// As the reference implementation does, this insists that the tensors cover the data without holes or overlaps, so that a
// truncated file cannot pass.
// Errors: InvalidArgument for anything the format forbids, naming the tensor; also for names twice and unknown fields.
// Costs a small multiple of the header's bytes, whatever is in it.
absl::StatusOr<std::map<std::string, StoredTensor>> ListSafetensors(absl::Span<const std::byte> bytes);

// The same for a file whose types are all supported. Errors: also InvalidArgument naming a tensor whose type is not.
absl::StatusOr<std::map<std::string, TensorView>> ReadSafetensors(absl::Span<const std::byte> bytes);

}  // namespace ebbinghaus::model
