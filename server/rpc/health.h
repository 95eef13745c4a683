// Whether the server takes calls, by gRPC's health checking protocol.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/rpc/request_gate.h"

namespace grpc {
class Service;
}

namespace ebbinghaus::rpc {

// gRPC's own service reads a request of any size from callers without a token. Thread safe.
class HealthService {
 public:
  virtual ~HealthService() = default;

  // Must be registered with a server that this outlives.
  virtual grpc::Service* grpc_service() = 0;

  // NOT_SERVING at first. Those who watch are told.
  virtual void SetServing(bool serving) = 0;
};

// Answers for `names`, all alike. `gate` must outlive it.
std::unique_ptr<HealthService> MakeHealthService(std::vector<std::string> names, RequestGate* gate);

}  // namespace ebbinghaus::rpc
