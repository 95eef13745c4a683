// From absl::Status to gRPC's, with the details of google.rpc.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "server/base/clock.h"
#include "server/base/violations.h"

namespace ebbinghaus::rpc {

// When to try again after RESOURCE_EXHAUSTED. A constant: what frees room is a request ending, which cannot be
// foretold.
inline constexpr std::chrono::milliseconds kRetryDelay{1000};

// The same code and message. Carries in `grpc-status-details-bin` a google.rpc.Status with a google.rpc.BadRequest of
// the violations (if any) or, for RESOURCE_EXHAUSTED that is no base::NeverFits, a google.rpc.RetryInfo of kRetryDelay, as
// far as message and details together stay below the 8 KiB of metadata that clients accept by default.
grpc::Status ToGrpcStatus(const absl::Status& status, const base::Violations& violations = {});

}  // namespace ebbinghaus::rpc
