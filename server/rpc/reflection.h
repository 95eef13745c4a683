// Server reflection, by which tools find out what they can call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/rpc/request_gate.h"

namespace grpc {
class Service;
}

namespace ebbinghaus::rpc {

// Answers as grpc.reflection.v1 and as v1alpha, whose messages are the same. (Debian's libgrpc++_reflection has v1alpha only, and
// reads questions of any size.) Lists `services` and both of its own; describes every type that is linked into the program.
// Register it with a server that it outlives; `gate` must outlive both.
std::unique_ptr<grpc::Service> MakeReflectionService(std::vector<std::string> services, RequestGate* gate);

}  // namespace ebbinghaus::rpc
