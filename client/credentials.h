// How the client proves who it is and knows the server: TLS and a token, from files.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/options.h"

namespace grpc {
class ChannelCredentials;
}

namespace ebbinghaus::client {

struct Credentials {
  std::shared_ptr<grpc::ChannelCredentials> channel;
  std::string server_name;  // that the server's certificate must have; empty: the target's host
  std::string token;        // sent with every call; empty: none
};

// Reads the files that the options name. A token file holds one token, as `SECRET` or, like the server's file, as
// `NAME SECRET`; empty lines and those that start with # are skipped.
// Errors: NotFound or InvalidArgument with the flag and the file, never with what stands in it; InvalidArgument too if a
// token would cross a network in the clear.
absl::StatusOr<Credentials> ReadCredentials(const Options& options);

// Whether what is sent to the target stays on this machine.
bool IsLocal(const std::string& target);

}  // namespace ebbinghaus::client
