// A server, reached: its stubs, and how its errors are told.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cancellation.h"
#include "client/credentials.h"
#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"

namespace ebbinghaus::client {

class Connection {
 public:
  // How long Open waits for a server: long enough for one that is just coming up.
  static constexpr absl::Duration kConnectWait = absl::Seconds(5);

  // Waits until `target` answers, at most kConnectWait and at most `timeout`, which also becomes
  // the deadline of every call. `cancellation` must outlive the connection. Errors: Unavailable.
  static absl::StatusOr<Connection> Open(const std::string& target,
                                         const Credentials& credentials,
                                         std::optional<absl::Duration> timeout,
                                         Cancellation& cancellation);

  // Names the conversation that all further calls belong to. A proxy before several servers sends
  // calls with the same name to the same server, whose prefix cache has what was read before.
  // Requires: fit to be metadata.
  void SetAffinity(std::string name) { affinity_ = std::move(name); }

  v1::InferenceService::Stub& inference() { return *stub_; }

  // Runs one call with deadline, token and affinity set and the cancellation watching it.
  absl::Status Call(const std::function<grpc::Status(grpc::ClientContext&)>& call);

  // The serving status that grpc.health.v1 reports for the whole server: SERVING, NOT_SERVING, ...
  absl::StatusOr<std::string> Health();

 private:
  Connection(std::shared_ptr<grpc::Channel> channel, std::string token,
             std::optional<absl::Duration> timeout, Cancellation& cancellation);

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  std::string token_;     // empty: none
  std::string affinity_;  // empty: none
  std::optional<absl::Duration> timeout_;
  Cancellation* cancellation_;
};

// "INVALID_ARGUMENT: sampling.temperature: ...".
std::string Describe(const absl::Status& status);

}  // namespace ebbinghaus::client
