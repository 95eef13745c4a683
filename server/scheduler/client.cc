#include "server/scheduler/client.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace ebbinghaus::scheduler {
namespace {

// An address without brackets, as it is written; the zone of a link-local one goes with its low half.
std::string NetworkOf(const std::string& address) {
  in6_addr v6;
  if (inet_pton(AF_INET6, address.substr(0, address.find('%')).c_str(), &v6) != 1) return address;
  char text[INET6_ADDRSTRLEN];
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    return inet_ntop(AF_INET, &v6.s6_addr[12], text, sizeof text);
  }
  std::fill(std::begin(v6.s6_addr) + 8, std::end(v6.s6_addr), 0);
  return absl::StrCat(inet_ntop(AF_INET6, &v6, text, sizeof text), "/64");
}

// gRPC writes brackets and zones as a URI has them.
std::string HostOf(const std::string& peer) {
  if (peer.rfind("ipv4:", 0) != 0 && peer.rfind("ipv6:", 0) != 0) return peer;  // a socket's path
  std::string host =
      absl::StrReplaceAll(peer.substr(5), {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}});
  host = host.substr(0, host.rfind(':'));
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return NetworkOf(host);
}

}  // namespace

Client ClientOf(const std::string& identity, const std::string& peer) {
  return {.owner = identity.empty() ? "host " + HostOf(peer) : "token " + identity,
          .connection = peer};
}

}  // namespace ebbinghaus::scheduler
