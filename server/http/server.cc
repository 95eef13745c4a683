#include "server/http/server.h"

#include <sys/socket.h>

#include <list>
#include <thread>
#include <utility>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/thread_pool.hpp"
#include "server/base/listen.h"
#include "server/http/connection.h"
#include "server/http/rendered_page.h"
#include "server/scheduler/log.h"

namespace ebbinghaus::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

}  // namespace

class Server::Impl {
 public:
  Impl(Routes routes, Limits limits) : routes_(std::move(routes)), limits_(limits) {
    for (const auto& [path, render] : routes_.rendered) {
      rendered_[path] = std::make_unique<RenderedPage>(network_, worker_, render, limits_);
    }
  }

  ~Impl() {
    network_.stop();
    if (thread_.joinable()) thread_.join();
    worker_.join();
    while (auto connection = shared_.connections.FirstToGo(Phase::kStreaming)) connection->Close();
  }

  absl::Status Listen(const std::string& host, uint16_t port) {
    absl::StatusOr<base::ListeningSockets> sockets = base::ListeningSockets::Open(host, port);
    if (!sockets.ok()) return sockets.status();
    port_ = sockets->port();
    if (sockets->ipv4_instead()) scheduler::LogWarning("no_ipv6", {{"listens_on", "0.0.0.0"}, {"port", "http"}});
    for (const int fd : sockets->Take()) {
      listeners_.emplace_back(network_);
      int family = AF_INET;
      socklen_t size = sizeof family;
      getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
      listeners_.back().acceptor.assign(family == AF_INET6 ? tcp::v6() : tcp::v4(), fd);
    }
    return absl::OkStatus();
  }

  void Run() {
    for (Listener& listener : listeners_) Accept(listener);
    thread_ = std::thread([this] { network_.run(); });
  }

  uint16_t port() const { return port_; }

 private:
  struct Listener {
    explicit Listener(asio::io_context& network) : acceptor(network), pause(network) {}
    tcp::acceptor acceptor;
    asio::steady_timer pause;
  };

  void Accept(Listener& listener) {
    listener.acceptor.async_accept([this, &listener](boost::system::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (!error) Admit(std::move(socket));
      if (base::IsAcceptShortage(error.value())) return PauseAccepting(listener, error);
      Accept(listener);
    });
  }

  void Admit(tcp::socket socket) {
    if (shared_.connections.size() >= limits_.connections) {
      auto idle = shared_.connections.FirstToGo(Phase::kWaiting);
      if (idle == nullptr) return;
      idle->Close();
    }
    Connection::Start(std::move(socket), shared_);
  }

  void PauseAccepting(Listener& listener, boost::system::error_code error) {
    const base::TimePoint now = std::chrono::steady_clock::now();
    if (now >= next_warning_) {
      next_warning_ = now + base::kAcceptWarningInterval;
      scheduler::LogWarning("http_accept_failed", {{"error", error.message()}});
    }
    // Who only waits to be asked something holds what somebody else could be answered with.
    if (auto idle = shared_.connections.FirstToGo(Phase::kReading)) idle->Close();
    listener.pause.expires_after(base::kAcceptPause);
    listener.pause.async_wait([this, &listener](boost::system::error_code) { Accept(listener); });
  }

  asio::io_context network_{1};  // first, since everything below refers to it
  asio::thread_pool worker_{1};
  const Routes routes_;
  const Limits limits_;
  std::map<std::string, std::unique_ptr<RenderedPage>> rendered_;
  Shared shared_{routes_, limits_, rendered_, {}};
  std::list<Listener> listeners_;
  base::TimePoint next_warning_{};
  uint16_t port_ = 0;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const std::string& host, uint16_t port,
                                                      Routes routes, Limits limits) {
  auto impl = std::make_unique<Impl>(std::move(routes), limits);
  if (absl::Status status = impl->Listen(host, port); !status.ok()) return status;
  impl->Run();
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

uint16_t Server::port() const { return impl_->port(); }

}  // namespace ebbinghaus::http
