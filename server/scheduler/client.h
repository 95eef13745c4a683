// Whom fairness is kept between.
#pragma once

#include <string>

namespace ebbinghaus::scheduler {

// Owners take turns with each other, and so do an owner's connections among themselves
// (docs/decisions/0006-fairness.md).
struct Client {
  std::string owner;       // "token NAME", else "host ADDRESS"
  std::string connection;  // the peer's address and port

  bool operator==(const Client&) const = default;
};

// `identity`: the name that goes with the client's token, empty without one. `peer`: as gRPC writes
// it, such as "ipv4:192.0.2.1:4711". Of an IPv6 address only the first 64 bits count, since one host
// can have all that share them; an IPv4 address in IPv6 form is that IPv4 address.
Client ClientOf(const std::string& identity, const std::string& peer);

}  // namespace ebbinghaus::scheduler
