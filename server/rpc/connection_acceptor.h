// Accepts the connections of the gRPC port.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/listen.h"

namespace ebbinghaus::rpc {

// Listens, and accepts on a thread of its own. gRPC's own listener stops accepting for good at the first lack of
// descriptors; this one goes on when there are some again. It also leaves the last descriptors of the process to
// others, such as the HTTP port's probes: connections that would take them are closed at once. Thread safe.
class ConnectionAcceptor {
 public:
  // Gets a connection: non-blocking, and its own to close. `listener` is the socket that it came by.
  using HandOver = std::function<void(int listener, int connection)>;

  // `host` as for base::ListeningSockets. Once this returns clients can connect; they are handed over after Begin.
  // Errors: Unavailable when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<ConnectionAcceptor>> Listen(const std::string& host, uint16_t port);
  ~ConnectionAcceptor();  // as Stop

  uint16_t port() const { return port_; }

  // Call once.
  void Begin(HandOver hand_over);
  // Listens no more. When this returns, nothing is handed over any more.
  void Stop();

 private:
  explicit ConnectionAcceptor(base::ListeningSockets sockets);

  void Run();
  bool AcceptAll(int listener);  // false: the system has nothing to accept with
  void Warn(const char* event, const char* error);

  const uint16_t port_;
  const std::vector<int> listeners_;
  const int stop_;  // an eventfd, readable once it should stop
  HandOver hand_over_;
  base::TimePoint next_warning_{};  // of the thread
  std::mutex mutex_;
  bool stopped_ = false;  // guarded by mutex_
  std::thread thread_;    // guarded by mutex_
};

}  // namespace ebbinghaus::rpc
