#include "server/rpc/connection_bytes.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace ebbinghaus::rpc {
namespace {

// As gRPC writes it, without the escapes of an IPv6 address; nothing for what is no TCP connection.
std::string PeerOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(v4.sin_port));
  }
  if (address.ss_family != AF_INET6) return "";
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) {
    inet_ntop(AF_INET, v6.sin6_addr.s6_addr + 12, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(v6.sin6_port));
  }
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text));
  return absl::StrCat("ipv6:[", text, "]:", ntohs(v6.sin6_port));
}

int FindSocket(const std::string& peer) {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return -1;
  int found = -1;
  while (const dirent* entry = readdir(folder)) {
    char* end = nullptr;
    const long fd = std::strtol(entry->d_name, &end, 10);
    if (end == entry->d_name || *end != '\0' || PeerOf(static_cast<int>(fd)) != peer) continue;
    found = static_cast<int>(fd);
    break;
  }
  closedir(folder);
  return found;
}

}  // namespace

ConnectionBytes::ConnectionBytes(std::string peer)
    : peer_(absl::StrReplaceAll(peer, {{"%5B", "["}, {"%5D", "]"}})) {
  seen_ = Total().value_or(0);
}

std::optional<uint64_t> ConnectionBytes::Arrived() {
  const std::optional<uint64_t> total = Total();
  if (!total) return std::nullopt;
  return *total - std::exchange(seen_, *total);
}

std::optional<uint64_t> ConnectionBytes::Total() {
  if (socket_ < 0 || PeerOf(socket_) != peer_) socket_ = FindSocket(peer_);
  if (socket_ < 0) return std::nullopt;
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(socket_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  return info.tcpi_bytes_received;
}

}  // namespace ebbinghaus::rpc
