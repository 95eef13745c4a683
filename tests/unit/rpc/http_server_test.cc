#include "server/rpc/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

namespace ebbinghaus::rpc {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class HttpServerTest : public testing::Test {
 protected:
  void SetUp() override {
    HttpContent content{[this]() -> std::string {
                          if (broken_) throw std::runtime_error("secret");
                          return "ebbinghaus_up 1\n";
                        },
                        [this] { return alive_.load(); },
                        [this] { return ready_.load(); },
                        [this] { return std::string(!alive_ ? "stuck" : ready_ ? "serving" : "draining"); },
                        [] { return std::string("tiny <model>"); },
                        "1.2.3"};
    auto server = HttpServer::Start("127.0.0.1", 0, std::move(content));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  int Connect() {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_->port());
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }

  // Sends these bytes, and the end of the stream if `half_close`, and returns all that comes back until the server
  // closes. (httplib answers no one who has closed his half: only for requests that never get complete.)
  std::string Exchange(const std::string& bytes, bool half_close = false) {
    const int fd = Connect();
    for (size_t sent = 0; sent < bytes.size();) {
      ssize_t n = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) break;  // the server has heard enough
      sent += static_cast<size_t>(n);
    }
    if (half_close) shutdown(fd, SHUT_WR);
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
    close(fd);
    return answer;
  }

  std::string Get(const std::string& path) {
    return Exchange("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }

  std::atomic<bool> alive_{true}, ready_{true}, broken_{false};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, MetricsHaveTheExpositionType) {
  EXPECT_THAT(Get("/metrics"), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("text/plain; version=0.0.4"),
                                     HasSubstr("ebbinghaus_up 1\n")));
}

TEST_F(HttpServerTest, ManyIdleConnectionsKeepNobodyWaiting) {
  std::vector<int> idle;
  for (int i = 0; i < 40; ++i) idle.push_back(Connect());
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
  for (const int fd : idle) {
    char byte;
    EXPECT_EQ(recv(fd, &byte, 1, MSG_DONTWAIT), -1) << "answered only after the server had given up an idle one";
    close(fd);
  }
}

TEST_F(HttpServerTest, ReadyFollowsTheServerAndHealthyOnlyWhetherItIsStuck) {
  EXPECT_THAT(Get("/readyz"), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("serving")));
  ready_ = false;
  EXPECT_THAT(Get("/readyz"), AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("draining")));
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
  alive_ = false;
  EXPECT_THAT(Get("/healthz"), AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("stuck")));
}

TEST_F(HttpServerTest, TheIndexNamesTheModelAndLinksThePages) {
  EXPECT_THAT(Get("/"), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("tiny &lt;model&gt;"), HasSubstr("serving"),
                              HasSubstr("/metrics"), HasSubstr("/readyz"), HasSubstr("1.2.3")));
}

TEST_F(HttpServerTest, WhatIsNotThereIsNotFound) {
  EXPECT_THAT(Get("/nothing"), StartsWith("HTTP/1.1 404"));
  EXPECT_THAT(Get("/../../etc/passwd"), StartsWith("HTTP/1.1 404"));
}

TEST_F(HttpServerTest, AFailingPageIsAnErrorWithoutItsReason) {
  broken_ = true;
  EXPECT_THAT(Get("/metrics"), AllOf(StartsWith("HTTP/1.1 500"), testing::Not(HasSubstr("secret"))));
  broken_ = false;
  EXPECT_THAT(Get("/metrics"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, BadRequestsDoNotEndTheServer) {
  const std::string bad[] = {"",
                             "\r\n\r\n",
                             "GET\r\n\r\n",
                             std::string("\0\xff\x01\r\n\r\n", 7),
                             "GET / HTTP/9.9\r\n\r\n",
                             "BREW / HTTP/1.1\r\n\r\n",
                             "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\n\r\n",
                             "GET / HTTP/1.1\r\nA: " + std::string(100'000, 'b') + "\r\n\r\n",
                             "POST /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
                             "POST /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                             "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
                             "GET / HTTP/1.1\r\nRange: bytes=9-1,-,5-\r\n\r\n",
                             "GET /%zz%00 HTTP/1.1\r\nConnection: close\r\n\r\n"};
  for (const std::string& request : bad) Exchange(request, /*half_close=*/true);
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, ManyConnectionsAreServed) {
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 32; ++i) {
    clients.emplace_back([&] { answered += Get("/metrics").find("ebbinghaus_up 1") != std::string::npos; });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered, 32);
}

TEST_F(HttpServerTest, APortInUseIsAnError) {
  auto second = HttpServer::Start("127.0.0.1", server_->port(), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("cannot listen on 127.0.0.1"));
}

TEST_F(HttpServerTest, AHostThatIsNotHereIsAnError) {
  EXPECT_FALSE(HttpServer::Start("192.0.2.1", 0, {}).ok());
  EXPECT_FALSE(HttpServer::Start("no such host", 0, {}).ok());
}

}  // namespace
}  // namespace ebbinghaus::rpc
