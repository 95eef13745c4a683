// Who a call comes from, and whether it may be made at all.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "server/metrics/metrics.h"
#include "server/rpc/tokens.h"

namespace grpc {
class ServerContextBase;
}

namespace ebbinghaus::rpc {

// Every call of the inference service is checked, over TLS or not; health and reflection are open.
// (grpcpp's AuthMetadataProcessor would not do: it does not run on a listener without TLS.) Copyable, thread safe.
class Authenticator {
 public:
  // Lets everybody in.
  Authenticator() = default;
  // With `tokens`, which may be null, a call needs one of them. Both must outlive this.
  Authenticator(const TokenStore* tokens, metrics::Metrics* metrics) : tokens_(tokens), metrics_(metrics) {}

  // The name that goes with the call's token; where none is needed, that of the client's certificate (its first subject
  // alternative name, else its common name), or "" without one.
  // Errors: Unauthenticated, which is counted.
  absl::StatusOr<std::string> Identify(const grpc::ServerContextBase& context) const;

 private:
  const TokenStore* tokens_ = nullptr;
  metrics::Metrics* metrics_ = nullptr;
};

}  // namespace ebbinghaus::rpc
