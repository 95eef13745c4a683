#include "server/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/unit/http/client.h"

namespace ebbinghaus::http {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr char kLine[] = "GET /quick HTTP/1.1\r\n";
constexpr char kWhole[] = "GET /quick HTTP/1.1\r\nHost: x\r\n\r\n";
const size_t kLargePage = 1 << 20;

class ServerTest : public testing::Test {
 protected:
  void SetUp() override { Start({}); }

  void Start(Limits limits) {
    Routes routes;
    routes.quick["/quick"] = [] { return Response{.body = "well\n"}; };
    routes.rendered["/large"] = [] { return Response{.body = std::string(kLargePage, 'x')}; };
    routes.rendered["/held"] = [this] {
      std::unique_lock lock(mutex_);
      ++renderings_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !held_; });
      return Response{.body = "rendering " + std::to_string(renderings_) + "\n"};
    };
    auto server = Server::Start("127.0.0.1", 0, std::move(routes), limits);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void TearDown() override { Hold(false); }

  void Hold(bool held) {
    std::lock_guard lock(mutex_);
    held_ = held;
    changed_.notify_all();
  }
  void AwaitRendering(int number) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return renderings_ >= number; });
  }

  std::string Exchange(const std::string& bytes) { return http::Exchange(server_->port(), bytes); }
  std::string Probe() { return Get(server_->port(), "/quick"); }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;   // guarded by mutex_
  int renderings_ = 0;  // guarded by mutex_
  std::unique_ptr<Server> server_;
};

TEST_F(ServerTest, AConnectionIsKeptForFurtherRequests) {
  Client client(server_->port());
  for (int i = 0; i < 3; ++i) {
    client.Send(kWhole);
    EXPECT_THAT(client.ReadPast("well\n"), StartsWith("HTTP/1.1 200"));
  }
  EXPECT_TRUE(client.IsSilent());
}

TEST_F(ServerTest, PipelinedRequestsAreAnsweredInTurnUntilTheirNumberIsUp) {
  std::string many;
  for (int i = 0; i < 100'000; ++i) many += kWhole;
  Client client(server_->port());
  std::thread sending([&] { client.Send(many); });
  const std::string answers = client.ReadToEnd();
  sending.join();
  size_t count = 0;
  for (size_t at = 0; (at = answers.find("well\n", at)) != answers.npos; ++at) ++count;
  EXPECT_EQ(count, Limits().requests_per_connection);
  EXPECT_THAT(answers.substr(answers.rfind("HTTP/1.1")), HasSubstr("Connection: close"));
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, HeadIsGetWithoutTheBody) {
  const std::string answer = Exchange("HEAD /quick HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 5\r\n"), EndsWith("\r\n\r\n")));
  EXPECT_THAT(Exchange("HEAD /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 404"), EndsWith("\r\n\r\n")));
}

TEST_F(ServerTest, Http10IsAnsweredAndClosedUnlessItAsksNotTo) {
  EXPECT_THAT(Exchange("GET /quick HTTP/1.0\r\n\r\n"), AllOf(StartsWith("HTTP/1.0 200"), EndsWith("well\n")));
  Client client(server_->port());
  for (int i = 0; i < 2; ++i) {
    client.Send("GET /quick HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_THAT(client.ReadPast("well\n"), HasSubstr("Connection: keep-alive"));
  }
}

TEST_F(ServerTest, AClientThatHasClosedItsHalfGetsItsAnswer) {
  Client client(server_->port());
  client.Send(kWhole);
  client.HalfClose();
  EXPECT_THAT(client.ReadToEnd(), AllOf(StartsWith("HTTP/1.1 200"), EndsWith("well\n")));
}

TEST_F(ServerTest, EveryTargetThatNamesThePageFindsIt) {
  for (const char* target : {"/quick", "/quick?", "/quick?a=b&c=/large", "http://x/quick", "http://x:9/quick?a"}) {
    EXPECT_THAT(Get(server_->port(), target), StartsWith("HTTP/1.1 200")) << target;
  }
  for (const char* target : {"/", "/Quick", "/quick/", "//quick", "/%71uick", "/../quick", "/quick%00", "/%zz", "http://",
                             "http://quick", "*", "quick", "x:80", "/../../etc/passwd"}) {
    EXPECT_THAT(Get(server_->port(), target), StartsWith("HTTP/1.1 404")) << target;
  }
}

TEST_F(ServerTest, OtherMethodsAreToldWhichThereAre) {
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "BREW", "get"}) {
    EXPECT_THAT(Exchange(std::string(method) + " /quick HTTP/1.1\r\nHost: x\r\n\r\n"),
                AllOf(StartsWith("HTTP/1.1 405"), HasSubstr("Allow: GET, HEAD\r\n")))
        << method;
  }
}

// Each is refused, and the connection closed: what follows might be another request to one reader and a body to the next.
TEST_F(ServerTest, WhatTwoReadersCouldTakeForDifferentRequestsIsRefused) {
  const std::string host = "Host: x\r\n";
  const std::pair<std::string, int> bad[] = {
      {"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400},
      {"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400},
      {"Transfer-Encoding: gzip\r\nContent-Length: 4\r\n", 400},
      {"Content-Length: 4\r\nTransfer-Encoding: gzip\r\n", 400},
      {"Transfer-Encoding: identity\r\n", 400},
      {"Transfer-Encoding: chunked, identity\r\n", 400},
      {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
      {"Transfer-Encoding: \r\n", 400},
      {"Transfer-Encoding : chunked\r\n", 400},
      {"Content-Length: 0\r\nContent-Length: 4\r\n", 400},
      {"Content-Length: 4\r\nContent-Length: 4\r\n", 400},
      {"Content-Length: 4, 4\r\n", 400},
      {"Content-Length: -1\r\n", 400},
      {"Content-Length: +4\r\n", 400},
      {"Content-Length: 0x4\r\n", 400},
      {"Content-Length: 4 4\r\n", 400},
      {"Content-Length: \r\n", 400},
      {"Content-Length: 99999999999999999999999999\r\n", 400},
      {"Host: y\r\n", 400},
      {std::string("A: b\0c\r\n", 8), 400},
      {"A: b\x01" "c\r\n", 400},
      {"A b\r\n", 400},
      {": b\r\n", 400},
      {"A: b\nC: d\r\n", 400},
      {"A: b\rC: d\r\n", 400},
      {"Transfer-Encoding: chunked\r\n", 413},
      {"Content-Length: 4\r\n", 413},
      {"Content-Length: 9999999999\r\n", 413},
      {"Expect: 100-continue\r\nContent-Length: 4\r\n", 413},
  };
  for (const auto& [fields, status] : bad) {
    const std::string answer = Exchange(kLine + host + fields + "\r\nGET /quick HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 " + std::to_string(status))) << fields;
    EXPECT_EQ(answer.find("HTTP/1.1", 1), answer.npos) << fields;
    EXPECT_THAT(answer, HasSubstr("Connection: close")) << fields;
  }
}

TEST_F(ServerTest, WhatIsNoRequestIsRefused) {
  const std::string bad[] = {"\r\n\r\n",
                             "GET\r\n\r\n",
                             "GET \r\n\r\n",
                             "GET /quick\r\n\r\n",
                             "GET /quick HTTP/1.1\n\n",
                             "GET  /quick HTTP/1.1\r\nHost: x\r\n\r\n",
                             "GET /quick  HTTP/1.1\r\nHost: x\r\n\r\n",
                             "GET /quick HTTP/1.1 \r\nHost: x\r\n\r\n",
                             "GET /qu ick HTTP/1.1\r\nHost: x\r\n\r\n",
                             "GET /quick http/1.1\r\nHost: x\r\n\r\n",
                             "GET /quick HTTP/1.1\r\n\r\n",
                             std::string("GET /qu\0ick HTTP/1.1\r\nHost: x\r\n\r\n", 33),
                             std::string("\0\xff\x01\r\n\r\n", 7),
                             "\x16\x03\x01\x02\x00\x01\x00",
                             "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
  for (const std::string& request : bad) {
    EXPECT_THAT(Exchange(request), testing::AnyOf(StartsWith("HTTP/1.1 400"), StartsWith("HTTP/1.1 505"))) << request;
  }
  EXPECT_THAT(Exchange("GET /quick HTTP/9.9\r\nHost: x\r\n\r\n"), StartsWith("HTTP/1.1 505"));
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, AFieldFoldedOverTwoLinesIsOneField) {
  EXPECT_THAT(Exchange("GET /quick HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\nConnection: close\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, RangesAreNotServed) {
  for (const std::string& range : {std::string("bytes=0-0"), std::string("-,-,-,"), std::string("bytes=9-1,-,5-")}) {
    EXPECT_THAT(Exchange(kLine + ("Host: x\r\nConnection: close\r\nRange: " + range) + "\r\n\r\n"),
                AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Length: 5\r\n"), EndsWith("well\n")))
        << range;
  }
  std::string many = "Range: bytes=";
  for (int i = 0; i < 2700; ++i) many += "0-,";
  EXPECT_THAT(Exchange(kLine + ("Host: x\r\nConnection: close\r\n" + many) + "\r\n\r\n"), StartsWith("HTTP/1.1 "));
}

TEST_F(ServerTest, AHeaderHasABound) {
  std::string lines;
  for (int i = 0; i < 10'000; ++i) lines += "a: b\r\n";
  const std::string bad[] = {kLine + lines + "\r\n", kLine + ("A: " + std::string(100'000, 'b')),
                             "GET /" + std::string(100'000, 'a') + " HTTP/1.1\r\n\r\n",
                             std::string(100'000, 'G')};
  for (const std::string& request : bad) {
    EXPECT_THAT(Exchange(request), StartsWith("HTTP/1.1 4")) << request.substr(0, 40);
  }
  EXPECT_THAT(Exchange(kLine + ("Host: x\r\nConnection: close\r\nA: " + std::string(7'000, 'b')) + "\r\n\r\n"),
              StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, ALineWithoutEndIsCutOffAndNotKept) {
  Client client(server_->port());
  client.Send("GET /quick HTTP/1.1\r\nA: ");
  const std::string piece(1 << 20, 'y');
  size_t sent = 0;
  for (int i = 0; i < 64 && client.Send(piece) == piece.size(); ++i) sent += piece.size();
  EXPECT_LT(sent, size_t{64} << 20);
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, ClientsThatSayNothingKeepNoOneWaiting) {
  std::vector<Client> silent;
  for (int i = 0; i < 500; ++i) silent.emplace_back(server_->port());
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
  size_t open = 0;
  for (const Client& client : silent) open += client.IsSilent();
  EXPECT_LT(open, Limits().connections);
  EXPECT_TRUE(silent.back().IsSilent()) << "those that have idled longest go first";
}

TEST_F(ServerTest, ARequestThatTricklesInIsCutAtTheDeadline) {
  Start({.read_timeout = std::chrono::milliseconds(200)});
  std::vector<Client> slow;
  for (int i = 0; i < 64; ++i) slow.emplace_back(server_->port());
  size_t open = slow.size();
  for (Client& client : slow) client.Send(kLine);
  while (open > 0) {  // a line at a time for as long as the server listens
    open = 0;
    for (Client& client : slow) open += client.SendNow("a: b\r\n");
    EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
  }
}

TEST_F(ServerTest, AnIdleConnectionIsClosed) {
  Start({.read_timeout = std::chrono::milliseconds(50)});
  Client silent(server_->port()), kept(server_->port());
  kept.Send(kWhole);
  EXPECT_EQ(silent.ReadToEnd(), "");
  EXPECT_THAT(kept.ReadToEnd(), EndsWith("well\n"));
}

TEST_F(ServerTest, AClientThatDoesNotReadIsCutOff) {
  Start({.answer_timeout = std::chrono::milliseconds(300)});
  Client client(server_->port(), 4096);
  client.Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  while (client.SendNow("GET /large HTTP/1.1\r\nHost: x\r\n\r\n")) EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
  EXPECT_LT(client.ReadToEnd().size(), kLargePage);
}

TEST_F(ServerTest, ClientsThatDoNotReadKeepNoOneWaiting) {
  std::vector<Client> deaf;
  for (int i = 0; i < 200; ++i) {
    deaf.emplace_back(server_->port(), 4096);
    deaf.back().Send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  }
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
  EXPECT_EQ(Get(server_->port(), "/large").substr(0, 12), "HTTP/1.1 200");
}

TEST_F(ServerTest, AResetAtAnyMomentHurtsNobody) {
  for (int i = 0; i < 50; ++i) {
    for (const char* said : {"", "GET", kLine, kWhole, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\n\r\n",
                             "GET /held HTTP/1.1\r\nHost: x\r\n\r\n"}) {
      Client client(server_->port());
      client.Send(said);
      if (i % 2 == 1 && said == kWhole) client.ReadPast("HTTP");
      client.Reset();
    }
  }
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, ProbesAreAnsweredWhileAPageIsRendered) {
  Hold(true);
  Client waits(server_->port());
  waits.Send("GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  AwaitRendering(1);
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(waits.IsSilent());
  Hold(false);
  EXPECT_THAT(waits.ReadToEnd(), EndsWith("rendering 1\n"));
}

TEST_F(ServerTest, OneRenderingServesAllWhoWaitForIt) {
  Hold(true);
  const std::string request = "GET /held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  Client first(server_->port());
  first.Send(request);
  AwaitRendering(1);
  std::vector<Client> others;
  for (int i = 0; i < 64; ++i) {
    others.emplace_back(server_->port());
    others.back().Send(request);
  }
  Probe();  // asked later, answered by the same thread: the server has read all of the above
  Hold(false);
  EXPECT_THAT(first.ReadToEnd(), EndsWith("rendering 1\n"));
  for (Client& other : others) EXPECT_THAT(other.ReadToEnd(), EndsWith("rendering 2\n"));
}

TEST_F(ServerTest, AClientThatLeavesWhileItWaitsIsForgotten) {
  Start({.connections = 4});
  Hold(true);
  for (int i = 0; i < 100; ++i) {
    Client client(server_->port());
    client.Send("GET /held HTTP/1.1\r\nHost: x\r\n\r\n");
    if (i == 0) AwaitRendering(1);
    client.Reset();
  }
  EXPECT_THAT(Probe(), StartsWith("HTTP/1.1 200"));
  Hold(false);
  EXPECT_THAT(Get(server_->port(), "/held"), StartsWith("HTTP/1.1 200"));
}

TEST_F(ServerTest, ManyConnectionsAreServed) {
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 32; ++i) {
    clients.emplace_back([&] { answered += Get(server_->port(), "/large").size() > kLargePage; });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(answered, 32);
}

TEST_F(ServerTest, APortInUseIsAnError) {
  auto second = Server::Start("127.0.0.1", server_->port(), {});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("127.0.0.1:" + std::to_string(server_->port())));
}

TEST_F(ServerTest, StoppingClosesWhatIsOpen) {
  Client idle(server_->port());
  idle.Send(kWhole);
  idle.ReadPast("well\n");
  server_.reset();
  EXPECT_EQ(idle.ReadToEnd(), "");
}

}  // namespace
}  // namespace ebbinghaus::http
