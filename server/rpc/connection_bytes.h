// How much a peer has sent over its connection, as the kernel counts it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ebbinghaus::rpc {

// Of one TCP connection of this process, found by gRPC's name of its other end ("ipv4:127.0.0.1:4711"). gRPC gives away
// neither its sockets nor how much of a message has arrived.
class ConnectionBytes {
 public:
  ConnectionBytes() = default;
  explicit ConnectionBytes(std::string peer);

  // What has arrived since the last call (or the construction); nothing where there is no such connection any more.
  std::optional<uint64_t> Arrived();

 private:
  std::optional<uint64_t> Total();

  std::string peer_;
  int socket_ = -1;  // gRPC's; looked up again when it is another's by now
  uint64_t seen_ = 0;
};

}  // namespace ebbinghaus::rpc
