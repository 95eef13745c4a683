#include "server/rpc/http_server.h"

#include <sys/socket.h>

#include <string_view>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "httplib.h"

namespace ebbinghaus::rpc {
namespace {

// A connection keeps its thread while it idles, so many of them must not keep a probe waiting: an orchestrator would take
// the server for dead.
constexpr size_t kThreads = 64;
constexpr time_t kTimeoutSeconds = 5;  // to read a request, to write an answer, between two requests
constexpr size_t kMaxBodyBytes = 64 * 1024;
constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string IndexPage(const HttpContent& content) {
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Ebbinghaus</title>\n<h1>Ebbinghaus ",
      EscapeHtml(content.version), "</h1>\n<p>Model ", EscapeHtml(content.model()), ", ", EscapeHtml(content.state()),
      ".</p>\n<ul>\n<li><a href=\"/metrics\">/metrics</a> for Prometheus</li>\n"
      "<li><a href=\"/healthz\">/healthz</a> answers 200 unless only a restart can help</li>\n"
      "<li><a href=\"/readyz\">/readyz</a> answers 200 while requests are taken</li>\n</ul>\n"
      "<p>Text is generated over gRPC: service ebbinghaus.v1.InferenceService.</p>\n</html>\n");
}

}  // namespace

class HttpServer::Impl {
 public:
  explicit Impl(HttpContent content) : content_(std::move(content)) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
    // httplib's own choice shares the port with any other process that asks for it.
    server_.set_socket_options([](socket_t socket) {
      int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    server_.set_read_timeout(kTimeoutSeconds);
    server_.set_write_timeout(kTimeoutSeconds);
    server_.set_keep_alive_timeout(kTimeoutSeconds);
    server_.set_keep_alive_max_count(100);
    server_.set_payload_max_length(kMaxBodyBytes);
    // The default handler puts the exception's text into a header.
    server_.set_exception_handler([](const httplib::Request&, httplib::Response& response, auto&&) {
      response.status = 500;
      response.set_content("internal error\n", "text/plain");
    });
    AddPages();
  }

  ~Impl() {
    server_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Listen(std::string host, uint16_t port) {
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
    if (port == 0) {
      port_ = server_.bind_to_any_port(host);
    } else {
      port_ = server_.bind_to_port(host, port) ? port : -1;
    }
    if (port_ <= 0) {
      return absl::UnavailableError(
          absl::StrCat("cannot listen on ", host, ":", port, " (HTTP): in use, or not an address here"));
    }
    thread_ = std::thread([this] { server_.listen_after_bind(); });
    while (!server_.is_running()) std::this_thread::yield();  // else stop() would come too early to be heard
    return absl::OkStatus();
  }

  int port() const { return port_; }

 private:
  void AddPages() {
    server_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(content_.metrics(), kMetricsType);
    });
    server_.Get("/healthz", [this](const httplib::Request&, httplib::Response& response) {
      if (!content_.alive()) response.status = 503;
      response.set_content(content_.alive() ? "ok\n" : content_.state() + "\n", "text/plain");
    });
    server_.Get("/readyz", [this](const httplib::Request&, httplib::Response& response) {
      if (!content_.ready()) response.status = 503;
      response.set_content(content_.state() + "\n", "text/plain");
    });
    server_.Get("/", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(IndexPage(content_), "text/html; charset=utf-8");
    });
  }

  const HttpContent content_;
  httplib::Server server_;
  std::thread thread_;
  int port_ = 0;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const std::string& host, uint16_t port,
                                                              HttpContent content) {
  auto impl = std::make_unique<Impl>(std::move(content));
  if (absl::Status status = impl->Listen(host, port); !status.ok()) return status;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

uint16_t HttpServer::port() const { return static_cast<uint16_t>(impl_->port()); }

}  // namespace ebbinghaus::rpc
