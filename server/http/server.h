// A small HTTP/1.1 server for pages that watch this process: metrics, health, event streams. Not for the open internet.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/http/stream.h"

namespace ebbinghaus::http {

struct Response {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// What is served, by path ("/metrics"; a query is ignored). All answer GET and HEAD; a handler that throws makes a 500.
struct Routes {
  // Made on the network's thread, which every connection shares: a handler must not wait.
  std::map<std::string, std::function<Response()>> quick;
  // Made on a thread of its own, one at a time. All requests that wait when a run begins get its result.
  std::map<std::string, std::function<Response()>> rendered;
  // Answers without an end, of type text/event-stream. The handler runs on the network's thread: it hands the stream to a
  // publisher and returns.
  std::map<std::string, std::function<void(std::shared_ptr<Stream>)>> streams;
};

// What clients can take. The defaults are the server's; tests set smaller ones.
struct Limits {
  size_t header_bytes = 8192;   // request line and header of one request; there are no bodies
  size_t connections = 128;    // one more takes the place of the one that has idled longest
  size_t requests_per_connection = 100;
  size_t streams = 32;           // at once; one more is told 503
  size_t stream_buffer_bytes = size_t{64} << 10;  // that wait for one reader, beside the kernel's buffer
  base::Duration read_timeout = std::chrono::seconds(5);     // from the connection's begin, or the last answer's end, to
                                                             // the header's end
  base::Duration answer_timeout = std::chrono::seconds(10);  // for the client to take the answer, or a stream's piece
  base::Duration linger_timeout = std::chrono::seconds(1);   // for the client to close first
  base::Duration render_interval = std::chrono::milliseconds(50);  // between the begins of two runs of a page
};

// Serves on one thread whatever the number of connections, and renders on a second. Thread safe.
class Server {
 public:
  // `host` as for base::ListeningSockets; port 0 is any free one.
  // Errors: Unavailable when the address cannot be bound.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const std::string& host, uint16_t port, Routes routes,
                                                       Limits limits = {});
  ~Server();  // stops; every stream's client has gone then

  uint16_t port() const;

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace ebbinghaus::http
