// Listening TCP sockets, the same for every port that the server opens.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace ebbinghaus::base {

// Whether accepting failed because the system lacks descriptors or memory. Any other error is the matter of a connection
// that came and went.
bool IsAcceptShortage(int error);
// Before accepting again after a shortage, and between warnings of one.
inline constexpr std::chrono::milliseconds kAcceptPause{50};
inline constexpr std::chrono::seconds kAcceptWarningInterval{60};

// Sockets that listen, all on one port. Closes what Take has not given away. Movable, not copyable.
class ListeningSockets {
 public:
  // What `host` means:
  //   [::]       every address of this machine; IPv4's alone where the kernel has no IPv6
  //   0.0.0.0    every IPv4 address
  //   an address that one, IPv6 in brackets or bare
  //   a name     all its addresses that this machine has
  // Port 0 is any free one. The port is never shared with another process.
  // Errors: Unavailable, one line that names host, port and reason.
  static absl::StatusOr<ListeningSockets> Open(const std::string& host, uint16_t port);

  ListeningSockets(ListeningSockets&& other) noexcept;
  ListeningSockets& operator=(ListeningSockets&& other) noexcept;
  ~ListeningSockets();

  uint16_t port() const { return port_; }
  // True when [::] was asked for and IPv4 is all that there is.
  bool ipv4_instead() const { return ipv4_instead_; }
  // The descriptors, non-blocking; from now on the caller's to close.
  std::vector<int> Take();

 private:
  ListeningSockets() = default;

  std::vector<int> descriptors_;
  uint16_t port_ = 0;
  bool ipv4_instead_ = false;
};

}  // namespace ebbinghaus::base
