// The gRPC side of the process: a listening server with health and reflection.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/rpc/connection_acceptor.h"
#include "server/rpc/tls.h"

namespace grpc {
class Channel;
class Server;
class ServerCredentials;
class Service;
}  // namespace grpc

namespace ebbinghaus::rpc {

class HealthService;
class RequestGate;

struct GrpcServerOptions {
  std::string host = "127.0.0.1";  // as for base::ListeningSockets; empty: no listening port, in-process channels only
  uint16_t port = 0;               // 0 = any free port
  std::shared_ptr<const TlsCertificates> tls;  // null: plaintext
  RequestGate* gate = nullptr;  // lets in questions of health and reflection; null: neither is served
  bool reflection = false;
  uint32_t max_streams_per_connection = 256;  // above batch and queue, so that admission is what refuses
  int max_receive_bytes = 33 << 20;  // above what the service takes, which follows from the model
};

// Thread safe.
class GrpcServer {
 public:
  // Listens and takes calls; health is NOT_SERVING until SetServing. `service` must outlive the server.
  // Errors: Unavailable when the address cannot be bound (a port in use included: it is never shared).
  static absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const GrpcServerOptions& options, grpc::Service* service);
  ~GrpcServer();  // as Shutdown(0)

  uint16_t port() const;

  // What grpc.health.v1 answers for "" and for the inference service.
  void SetServing(bool serving);

  // Refuses new calls, gives those underway `grace`, then cancels them. Returns when all have ended. Only the first call
  // counts; a later one, from whichever thread, waits for it.
  void Shutdown(base::Duration grace);

  // A channel without a socket.
  std::shared_ptr<grpc::Channel> InProcessChannel();

 private:
  GrpcServer(std::shared_ptr<grpc::ServerCredentials> credentials, std::unique_ptr<HealthService> health,
             std::unique_ptr<grpc::Service> reflection, std::unique_ptr<grpc::Server> server,
             std::unique_ptr<ConnectionAcceptor> acceptor);

  const std::shared_ptr<grpc::ServerCredentials> credentials_;  // before the server, which they must outlive
  const std::unique_ptr<HealthService> health_;                 // likewise
  const std::unique_ptr<grpc::Service> reflection_;             // likewise
  std::unique_ptr<grpc::Server> server_;
  const std::unique_ptr<ConnectionAcceptor> acceptor_;  // null without a port; stopped before the server
};

}  // namespace ebbinghaus::rpc
