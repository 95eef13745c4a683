#include "client/connection.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/utf8.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"

namespace ebbinghaus::client {
namespace {

constexpr char kAffinity[] = "ebbinghaus-affinity";

std::chrono::system_clock::time_point Deadline(absl::Duration from_now) {
  return std::chrono::system_clock::now() + absl::ToChronoNanoseconds(from_now);
}

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& target,
                                           const Credentials& credentials) {
  grpc::ChannelArguments arguments;
  // A server that is coming up is found soon after it listens.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // A connection of its own, as another program would have: bench opens several to one server.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // gRPC sends calls through http_proxy, even to this very machine.
  if (IsLocal(target)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  if (!credentials.server_name.empty()) {
    arguments.SetString(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, credentials.server_name);
  }
  return grpc::CreateCustomChannel(target, credentials.channel, arguments);
}

// gRPC's codes and abseil's are the same numbers.
absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace

Connection::Connection(std::shared_ptr<grpc::Channel> channel, std::string token,
                       std::optional<absl::Duration> timeout, Cancellation& cancellation)
    : channel_(std::move(channel)),
      stub_(v1::InferenceService::NewStub(channel_)),
      token_(std::move(token)),
      timeout_(timeout),
      cancellation_(&cancellation) {}

absl::StatusOr<Connection> Connection::Open(const std::string& target,
                                            const Credentials& credentials,
                                            std::optional<absl::Duration> timeout,
                                            Cancellation& cancellation) {
  const absl::Duration wait = std::min(kConnectWait, timeout.value_or(kConnectWait));
  std::shared_ptr<grpc::Channel> channel = MakeChannel(target, credentials);
  Connection connection(channel, credentials.token, timeout, cancellation);
  if (channel->WaitForConnected(Deadline(wait))) return connection;
  std::string message = absl::StrCat("no gRPC server answers at ", target, " within ",
                                     absl::FormatDuration(wait),
                                     "; is ebbinghaus-server running there?");
  // Only the error of a call says why there is no connection, such as a certificate that is not trusted.
  if (channel->GetState(false) == GRPC_CHANNEL_TRANSIENT_FAILURE) {
    absl::StrAppend(&message, " (", connection.Health().status().message(), ")");
  }
  return absl::UnavailableError(message);
}

absl::Status Connection::Call(const std::function<grpc::Status(grpc::ClientContext&)>& call) {
  grpc::ClientContext context;
  if (timeout_) context.set_deadline(Deadline(*timeout_));
  if (!token_.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", token_));
  if (!affinity_.empty()) context.AddMetadata(kAffinity, affinity_);
  Cancellation::Scope watched(*cancellation_, context);
  return FromGrpc(call(context));
}

absl::StatusOr<std::string> Connection::Health() {
  using grpc::health::v1::HealthCheckResponse;
  HealthCheckResponse response;
  const auto stub = grpc::health::v1::Health::NewStub(channel_);
  absl::Status status = Call(
      [&](grpc::ClientContext& context) { return stub->Check(&context, {}, &response); });
  if (!status.ok()) return status;
  const std::string& name = HealthCheckResponse::ServingStatus_Name(response.status());
  return name.empty() ? absl::StrCat(response.status()) : name;
}

std::string Describe(const absl::Status& status) {
  return absl::StrCat(absl::StatusCodeToString(status.code()), ": ",
                      PrintableLine({status.message().data(), status.message().size()}));
}

}  // namespace ebbinghaus::client
