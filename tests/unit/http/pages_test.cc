#include "server/http/pages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "tests/unit/http/client.h"

namespace ebbinghaus::http {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class PagesTest : public testing::Test {
 protected:
  void SetUp() override {
    Content content{[this]() -> std::string {
                      if (broken_) throw std::runtime_error("secret");
                      return "ebbinghaus_up 1\n";
                    },
                    [this] { return alive_.load(); },
                    [this] { return ready_.load(); },
                    [this] { return std::string(!alive_ ? "stuck" : ready_ ? "serving" : "draining"); },
                    [] { return std::string("tiny <model>"); },
                    "1.2.3"};
    auto server = Server::Start("127.0.0.1", 0, MakePages(content));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string Get(const std::string& path) { return http::Get(server_->port(), path); }

  std::atomic<bool> alive_{true}, ready_{true}, broken_{false};
  std::unique_ptr<Server> server_;
};

TEST_F(PagesTest, MetricsHaveTheExpositionTypeWhateverPrometheusWouldPrefer) {
  const std::string answer = Exchange(
      server_->port(),
      "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n"
      "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n");
  EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("text/plain; version=0.0.4; charset=utf-8\r\n"),
                            HasSubstr("\r\nContent-Length: 16\r\n"), HasSubstr("\r\n\r\nebbinghaus_up 1\n")));
}

TEST_F(PagesTest, ReadyFollowsTheServerAndHealthyOnlyWhetherItIsStuck) {
  EXPECT_THAT(Get("/readyz"), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("serving")));
  ready_ = false;
  EXPECT_THAT(Get("/readyz"), AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("draining")));
  EXPECT_THAT(Get("/healthz"), StartsWith("HTTP/1.1 200"));
  alive_ = false;
  EXPECT_THAT(Get("/healthz"), AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("stuck")));
}

TEST_F(PagesTest, TheIndexNamesTheModelAndLinksThePages) {
  EXPECT_THAT(Get("/"), AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("tiny &lt;model&gt;"), HasSubstr("serving"),
                              HasSubstr("/metrics"), HasSubstr("/readyz"), HasSubstr("1.2.3")));
}

TEST_F(PagesTest, AFailingPageIsAnErrorWithoutItsReason) {
  broken_ = true;
  EXPECT_THAT(Get("/metrics"), AllOf(StartsWith("HTTP/1.1 500"), Not(HasSubstr("secret"))));
  broken_ = false;
  EXPECT_THAT(Get("/metrics"), StartsWith("HTTP/1.1 200"));
}

}  // namespace
}  // namespace ebbinghaus::http
