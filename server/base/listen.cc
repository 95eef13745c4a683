#include "server/base/listen.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ebbinghaus::base {
namespace {

// A port that is free on one address of a name may be taken on the next.
constexpr int kPortZeroTries = 16;

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

absl::Status Failed(const std::string& host, uint16_t port, absl::string_view reason) {
  return absl::UnavailableError(absl::StrCat("cannot listen on ", host, ":", port, ": ", reason));
}

std::string WithoutBrackets(const std::string& host) {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return bracketed ? host.substr(1, host.size() - 2) : host;
}

bool IsAnyIpv6(const addrinfo& address) {
  return address.ai_family == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
}

// This machine has no such address, or no such protocol.
bool IsNotHere(int error) { return error == EADDRNOTAVAIL || error == EAFNOSUPPORT; }

void SetPort(addrinfo& address, uint16_t port) {
  if (address.ai_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(address.ai_addr)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(address.ai_addr)->sin_port = htons(port);
  }
}

// A listening descriptor, or -errno.
int OpenOne(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const int yes = 1, only_ipv6 = IsAnyIpv6(address) ? 0 : 1;
  // So that a restarted server gets its port back at once; Linux does not let two share it by this.
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (address.ai_family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_ipv6, sizeof only_ipv6);
  }
  if (bind(fd, address.ai_addr, address.ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
    const int error = errno;
    close(fd);
    return -error;
  }
  return fd;
}

uint16_t PortOf(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) < 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

absl::StatusOr<Addresses> Resolve(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(WithoutBrackets(host).c_str(), "0", &hints, &found);
  Addresses addresses(found, &freeaddrinfo);
  if (error != 0) return Failed(host, port, error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error));
  return addresses;
}

}  // namespace

bool IsAcceptShortage(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

absl::StatusOr<ListeningSockets> ListeningSockets::Open(const std::string& host, uint16_t port) {
  absl::StatusOr<Addresses> addresses = Resolve(host, port);
  if (!addresses.ok()) return addresses.status();
  int error = 0;
  for (int tries = port == 0 ? kPortZeroTries : 1; tries > 0; --tries) {
    ListeningSockets opened;
    opened.port_ = port;
    error = 0;
    for (addrinfo* address = addresses->get(); address != nullptr; address = address->ai_next) {
      SetPort(*address, opened.port_);
      const int fd = OpenOne(*address);
      if (fd < 0) {
        error = -fd;
        if (IsAnyIpv6(**addresses) && IsNotHere(error)) {
          absl::StatusOr<ListeningSockets> ipv4 = Open("0.0.0.0", port);
          if (ipv4.ok()) ipv4->ipv4_instead_ = true;
          return ipv4;
        }
        if (IsNotHere(error)) continue;
        break;
      }
      opened.descriptors_.push_back(fd);
      opened.port_ = PortOf(fd);
    }
    if (!opened.descriptors_.empty() && (error == 0 || IsNotHere(error))) return opened;
    if (error != EADDRINUSE) break;
  }
  return Failed(host, port, error == EADDRINUSE ? "the port is in use" : std::strerror(error));
}

ListeningSockets::ListeningSockets(ListeningSockets&& other) noexcept { *this = std::move(other); }

ListeningSockets& ListeningSockets::operator=(ListeningSockets&& other) noexcept {
  std::swap(descriptors_, other.descriptors_);
  std::swap(port_, other.port_);
  std::swap(ipv4_instead_, other.ipv4_instead_);
  return *this;
}

ListeningSockets::~ListeningSockets() {
  for (int fd : descriptors_) close(fd);
}

std::vector<int> ListeningSockets::Take() { return std::exchange(descriptors_, {}); }

}  // namespace ebbinghaus::base
