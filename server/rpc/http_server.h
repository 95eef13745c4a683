// The HTTP side of the process: metrics, health and a page that says what runs here.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace ebbinghaus::rpc {

// Where the pages get their content; called on HTTP threads, several at a time.
struct HttpContent {
  std::function<std::string()> metrics;  // text exposition format
  std::function<bool()> alive;           // false when only a restart can help
  std::function<bool()> ready;           // false while loading, draining or not alive
  std::function<std::string()> state;    // "loading", "serving", "draining", "stuck"
  std::function<std::string()> model;    // its name; empty while loading
  std::string version;
};

// Serves GET /metrics, /healthz (503 if not alive), /readyz (503 if not ready) and / on threads of its own, of which
// there is a fixed number; a connection that says nothing is closed after seconds. Thread safe.
class HttpServer {
 public:
  // `host` may be an IPv6 address in brackets; port 0 = any free port.
  // Errors: Unavailable when the address cannot be bound (a port in use included).
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& host, uint16_t port, HttpContent content);
  ~HttpServer();  // stops

  uint16_t port() const;

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace ebbinghaus::rpc
