#include "server/rpc/grpc_server.h"

#include <chrono>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpc/compression.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpc/support/log.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/rpc/health.h"
#include "server/rpc/reflection.h"
#include "server/scheduler/log.h"

namespace ebbinghaus::rpc {
namespace {

using Connections = grpc::experimental::ExternalConnectionAcceptor;
using ExternalConnectionType = grpc::ServerBuilder::experimental_type::ExternalConnectionType;

constexpr int kLookaheadBytes = 16 << 10;
constexpr int kMaxMetadataBytes = 64 << 10;
constexpr size_t kQuotaBytes = size_t{512} << 20;

// gRPC's own complaints, in the form of our log lines.
void LogGrpc(gpr_log_func_args* args) {
  if (args->severity != GPR_LOG_SEVERITY_ERROR) return;
  scheduler::LogWarning("grpc", {{"message", std::string(args->message)}});
}

// These are the process's, not the builder's.
void SetUpProcess() {
  static std::once_flag once;
  std::call_once(once, [] { gpr_set_log_function(LogGrpc); });
}

// What a peer can make the process hold before a call of ours looks at it (docs/decisions/0005).
void SetReceiveLimits(const GrpcServerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_receive_bytes);
  // A compressed message would be inflated before anybody could look at its size: calls that announce one end as
  // UNIMPLEMENTED, and nothing is inflated where one comes unannounced.
  for (int algorithm = GRPC_COMPRESS_DEFLATE; algorithm < GRPC_COMPRESS_ALGORITHMS_COUNT; ++algorithm) {
    builder.SetCompressionAlgorithmSupportStatus(static_cast<grpc_compression_algorithm>(algorithm), false);
  }
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  // What a stream may send before its message is asked for. Probing would raise it to megabytes for whoever sends fast.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kLookaheadBytes);
  // gRPC 1.51 closes the connection, with every stream on it, when one call has more: proxies send up to 60 KiB.
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // The last resort: beyond it gRPC ends calls at random.
  builder.SetResourceQuota(grpc::ResourceQuota("server").Resize(kQuotaBytes));
}

void SetConnectionOptions(const GrpcServerOptions& options, grpc::ServerBuilder& builder) {
  SetReceiveLimits(options, builder);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(options.max_streams_per_connection));
  // A vanished client is noticed within 80 s.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 60'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // The default of five minutes breaks connections (too_many_pings) of clients that ping at usual rates.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  // Who connects and says nothing holds a descriptor: not for the default of two minutes.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 20'000);
}

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerOptions& options,
                                                              grpc::Service* service) {
  SetUpProcess();
  grpc::ServerBuilder builder;
  SetConnectionOptions(options, builder);
  std::shared_ptr<grpc::ServerCredentials> credentials =
      options.tls == nullptr ? grpc::InsecureServerCredentials() : MakeServerCredentials(options.tls);
  std::unique_ptr<ConnectionAcceptor> acceptor;
  std::shared_ptr<Connections> connections;
  if (!options.host.empty()) {
    auto listening = ConnectionAcceptor::Listen(options.host, options.port);
    if (!listening.ok()) return listening.status();
    acceptor = *std::move(listening);
    connections = builder.experimental().AddExternalConnectionAcceptor(ExternalConnectionType::FROM_FD, credentials);
  }
  builder.RegisterService(service);
  const std::string inference = v1::InferenceService::service_full_name();
  const std::string health_name = grpc::health::v1::Health::service_full_name();
  std::unique_ptr<HealthService> health;
  std::unique_ptr<grpc::Service> reflection;
  if (options.gate != nullptr) {
    health = MakeHealthService({"", inference}, options.gate);
    builder.RegisterService(health->grpc_service());
    if (options.reflection) {
      reflection = MakeReflectionService({inference, health_name}, options.gate);
      builder.RegisterService(reflection.get());
    }
  }
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) return absl::InternalError("gRPC does not start");
  if (acceptor != nullptr) {
    acceptor->Begin([connections](int listener, int connection) {
      Connections::NewConnectionParameters accepted;
      accepted.listener_fd = listener;
      accepted.fd = connection;
      connections->HandleNewConnection(&accepted);
    });
  }
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(credentials), std::move(health), std::move(reflection),
                                                    std::move(server), std::move(acceptor)));
}

GrpcServer::GrpcServer(std::shared_ptr<grpc::ServerCredentials> credentials, std::unique_ptr<HealthService> health,
                       std::unique_ptr<grpc::Service> reflection, std::unique_ptr<grpc::Server> server,
                       std::unique_ptr<ConnectionAcceptor> acceptor)
    : credentials_(std::move(credentials)),
      health_(std::move(health)),
      reflection_(std::move(reflection)),
      server_(std::move(server)),
      acceptor_(std::move(acceptor)) {}

uint16_t GrpcServer::port() const { return acceptor_ == nullptr ? 0 : acceptor_->port(); }

GrpcServer::~GrpcServer() { Shutdown(base::Duration::zero()); }

void GrpcServer::SetServing(bool serving) {
  if (health_ != nullptr) health_->SetServing(serving);
}

void GrpcServer::Shutdown(base::Duration grace) {
  if (acceptor_ != nullptr) acceptor_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(grace));
}

std::shared_ptr<grpc::Channel> GrpcServer::InProcessChannel() { return server_->InProcessChannel({}); }

}  // namespace ebbinghaus::rpc
