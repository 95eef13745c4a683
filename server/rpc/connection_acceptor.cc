#include "server/rpc/connection_acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "server/scheduler/log.h"

namespace ebbinghaus::rpc {
namespace {

// Enough for the HTTP port's connections and for files that are read again; of few descriptors a quarter.
constexpr rlim_t kReservedDescriptors = 192;
// How long what was sent may stay unconfirmed: as long as gRPC waits for a ping's answer.
constexpr int kUnconfirmedMilliseconds = 20'000;

// A new descriptor is the lowest that is free, so its number tells how many are taken.
bool IsReserved(int descriptor) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
  const rlim_t reserved = std::min(kReservedDescriptors, limit.rlim_cur / 4);
  return static_cast<rlim_t>(descriptor) >= limit.rlim_cur - reserved;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> ConnectionAcceptor::Listen(const std::string& host,
                                                                               uint16_t port) {
  absl::StatusOr<base::ListeningSockets> sockets = base::ListeningSockets::Open(host, port);
  if (!sockets.ok()) return sockets.status();
  if (sockets->ipv4_instead()) scheduler::LogWarning("no_ipv6", {{"listens_on", "0.0.0.0"}, {"port", "grpc"}});
  return std::unique_ptr<ConnectionAcceptor>(new ConnectionAcceptor(*std::move(sockets)));
}

ConnectionAcceptor::ConnectionAcceptor(base::ListeningSockets sockets)
    : port_(sockets.port()), listeners_(sockets.Take()), stop_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (const int listener : listeners_) {  // the connections inherit these
    const int yes = 1;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(listener, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnconfirmedMilliseconds, sizeof kUnconfirmedMilliseconds);
  }
}

ConnectionAcceptor::~ConnectionAcceptor() {
  Stop();
  close(stop_);
}

void ConnectionAcceptor::Begin(HandOver hand_over) {
  std::lock_guard lock(mutex_);
  if (stopped_) return;
  hand_over_ = std::move(hand_over);
  thread_ = std::thread([this] { Run(); });
}

void ConnectionAcceptor::Stop() {
  std::lock_guard lock(mutex_);
  if (std::exchange(stopped_, true)) return;
  eventfd_write(stop_, 1);
  if (thread_.joinable()) thread_.join();
  for (const int listener : listeners_) close(listener);
}

void ConnectionAcceptor::Run() {
  std::vector<pollfd> looks = {{stop_, POLLIN, 0}};
  for (const int listener : listeners_) looks.push_back({listener, POLLIN, 0});
  while (true) {
    poll(looks.data(), looks.size(), -1);
    if (looks[0].revents != 0) return;
    bool shortage = false;
    for (size_t i = 1; i < looks.size(); ++i) {
      if (looks[i].revents != 0) shortage |= !AcceptAll(looks[i].fd);
    }
    if (shortage) poll(looks.data(), 1, static_cast<int>(base::kAcceptPause.count()));
  }
}

bool ConnectionAcceptor::AcceptAll(int listener) {
  while (true) {
    const int connection = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection >= 0 && IsReserved(connection)) {
      close(connection);
      Warn("grpc_connection_refused", "descriptors run out");
    } else if (connection >= 0) {
      hand_over_(listener, connection);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      return true;
    } else if (base::IsAcceptShortage(errno)) {
      Warn("grpc_accept_failed", std::strerror(errno));
      return false;
    }
  }
}

void ConnectionAcceptor::Warn(const char* event, const char* error) {
  const base::TimePoint now = std::chrono::steady_clock::now();
  if (now < next_warning_) return;
  next_warning_ = now + base::kAcceptWarningInterval;
  scheduler::LogWarning(event, {{"error", error}});
}

}  // namespace ebbinghaus::rpc
