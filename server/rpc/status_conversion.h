// From absl::Status to gRPC's, with the details of google.rpc.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "server/base/clock.h"
#include "server/base/violations.h"

namespace ebbinghaus::rpc {

// The same code and message. Carries in `grpc-status-details-bin` a google.rpc.Status with a google.rpc.BadRequest of
// the violations (if any) or, where base::RetryDelay has one, a google.rpc.RetryInfo of it, as far as message and details
// together stay below the 8 KiB of metadata that clients accept by default.
grpc::Status ToGrpcStatus(const absl::Status& status, const base::Violations& violations = {});

}  // namespace ebbinghaus::rpc
