#include "server/rpc/grpc_server.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpc/support/log.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "grpcpp/impl/server_builder_plugin.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "server/scheduler/log.h"

namespace ebbinghaus::rpc {
namespace {

using Connections = grpc::experimental::ExternalConnectionAcceptor;
using ExternalConnectionType = grpc::ServerBuilder::experimental_type::ExternalConnectionType;

// gRPC's own complaints, in the form of our log lines.
void LogGrpc(gpr_log_func_args* args) {
  if (args->severity != GPR_LOG_SEVERITY_ERROR) return;
  scheduler::LogWarning("grpc", {{"message", std::string(args->message)}});
}

// These are the process's, not the builder's.
void SetUpProcess() {
  static std::once_flag once;
  std::call_once(once, [] {
    gpr_set_log_function(LogGrpc);
    grpc::EnableDefaultHealthCheckService(true);
  });
}

// Linking the reflection library makes every server offer it; here each server has it or not.
class ReflectionOption final : public grpc::ServerBuilderOption {
 public:
  explicit ReflectionOption(bool on) : on_(on) {}

  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    using grpc::reflection::ProtoServerReflectionPlugin;
    auto is_reflection = [](const auto& p) { return dynamic_cast<ProtoServerReflectionPlugin*>(p.get()) != nullptr; };
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(), is_reflection), plugins->end());
    if (on_) plugins->push_back(std::make_unique<ProtoServerReflectionPlugin>());
  }

 private:
  const bool on_;
};

void SetConnectionOptions(const GrpcServerOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_receive_bytes);
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
  builder.SetOption(std::make_unique<ReflectionOption>(options.reflection));
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
  std::unique_ptr<GrpcServer> started(
      new GrpcServer(std::move(credentials), std::move(server), std::move(acceptor)));
  started->SetServing(false);
  return started;
}

GrpcServer::GrpcServer(std::shared_ptr<grpc::ServerCredentials> credentials, std::unique_ptr<grpc::Server> server,
                       std::unique_ptr<ConnectionAcceptor> acceptor)
    : credentials_(std::move(credentials)), server_(std::move(server)), acceptor_(std::move(acceptor)) {}

uint16_t GrpcServer::port() const { return acceptor_ == nullptr ? 0 : acceptor_->port(); }

GrpcServer::~GrpcServer() { Shutdown(base::Duration::zero()); }

void GrpcServer::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
  health->SetServingStatus(serving);  // "" and every name set before
  health->SetServingStatus(v1::InferenceService::service_full_name(), serving);
}

void GrpcServer::Shutdown(base::Duration grace) {
  if (acceptor_ != nullptr) acceptor_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(grace));
}

std::shared_ptr<grpc::Channel> GrpcServer::InProcessChannel() { return server_->InProcessChannel({}); }

}  // namespace ebbinghaus::rpc
