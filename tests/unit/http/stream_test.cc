#include "server/http/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <vector>

#include "server/http/server.h"
#include "tests/unit/http/client.h"

namespace ebbinghaus::http {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

constexpr char kAsk[] = "GET /events HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(StreamTest, TakesWhatFitsAndNoMore) {
  int woken = 0;
  Stream stream(10, [&] { ++woken; });
  EXPECT_TRUE(stream.Write("12345"));
  EXPECT_FALSE(stream.Write("123456"));
  EXPECT_TRUE(stream.Write("67890"));
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(stream.Take(), "1234567890");
  EXPECT_FALSE(stream.Write("x")) << "what is being sent still counts";
  stream.Sent();
  EXPECT_TRUE(stream.Write("x"));
  EXPECT_EQ(woken, 2);
}

TEST(StreamTest, EndsAfterWhatIsQueued) {
  Stream stream(10, [] {});
  stream.Write("a");
  stream.Close();
  EXPECT_FALSE(stream.Write("b"));
  EXPECT_FALSE(stream.finished());
  EXPECT_EQ(stream.Take(), "a");
  stream.Sent();
  EXPECT_TRUE(stream.finished());
}

TEST(StreamTest, TellsOnceThatTheClientHasGone) {
  int told = 0, woken = 0;
  Stream stream(10, [&] { ++woken; });
  stream.OnGone([&] { ++told; });
  EXPECT_FALSE(stream.gone());
  stream.Gone();
  stream.Gone();
  EXPECT_TRUE(stream.gone());
  EXPECT_EQ(told, 1);
  EXPECT_FALSE(stream.Write("a"));
  stream.Close();
  EXPECT_EQ(woken, 0);
  stream.OnGone([&] { ++told; });
  EXPECT_EQ(told, 2) << "who asks later is told at once";
}

class StreamServerTest : public testing::Test {
 protected:
  void Start(Limits limits) {
    Routes routes;
    routes.quick["/quick"] = [] { return Response{.body = "well\n"}; };
    routes.streams["/events"] = [this](std::shared_ptr<Stream> stream) {
      stream->OnGone([this] {
        std::lock_guard lock(mutex_);
        ++gone_;
        changed_.notify_all();
      });
      std::lock_guard lock(mutex_);
      streams_.push_back(std::move(stream));
      changed_.notify_all();
    };
    auto server = Server::Start("127.0.0.1", 0, std::move(routes), limits);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  // A client whose stream is the last of streams_.
  Client Open(int receive_buffer_bytes = 0) {
    std::unique_lock lock(mutex_);
    const size_t before = streams_.size();
    lock.unlock();
    Client client(server_->port(), receive_buffer_bytes);
    client.Send(kAsk);
    lock.lock();
    changed_.wait(lock, [&] { return streams_.size() > before; });
    return client;
  }
  void AwaitGone(int number) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return gone_ >= number; });
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::shared_ptr<Stream>> streams_;  // guarded by mutex_
  int gone_ = 0;                                  // guarded by mutex_
  std::unique_ptr<Server> server_;
};

TEST_F(StreamServerTest, EventsReachEveryClientAsChunks) {
  Start({});
  std::vector<Client> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(Open());
  for (auto& stream : streams_) EXPECT_TRUE(stream->Write("data: 1\n\n"));
  for (Client& client : clients) {
    EXPECT_THAT(client.ReadPast("data: 1\n\n\r\n"),
                AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Content-Type: text/event-stream\r\n"),
                      HasSubstr("Transfer-Encoding: chunked\r\n"), HasSubstr("\r\n\r\n9\r\ndata: 1\n\n\r\n")));
  }
  for (auto& stream : streams_) stream->Write("data: 2\n\n");
  for (auto& stream : streams_) stream->Close();
  for (Client& client : clients) EXPECT_EQ(client.ReadToEnd(), "9\r\ndata: 2\n\n\r\n0\r\n\r\n");
}

// The publisher does not wait, the others get everything, and the one that does not read is cut off.
TEST_F(StreamServerTest, AClientThatDoesNotReadIsCutOffAndNobodyElseNotices) {
  Start({.stream_buffer_bytes = 64 << 10, .answer_timeout = std::chrono::milliseconds(500)});
  Client deaf = Open(4096);
  std::shared_ptr<Stream> to_deaf = streams_[0];
  Client reader = Open();
  const std::string event = "data: " + std::string(10'000, 'x') + "\n\n";
  size_t taken = 0, number = 0;
  while (!to_deaf->gone()) {
    taken += to_deaf->Write(event);
    ASSERT_TRUE(streams_[1]->Write(event)) << number;
    ASSERT_THAT(reader.ReadPast("\n\n"), EndsWith(event)) << number;
    ++number;
  }
  AwaitGone(1);
  EXPECT_LT(taken * event.size(), size_t{2} << 20) << "its buffer and the kernel's";
  EXPECT_GT(number, taken);
  EXPECT_FALSE(streams_[1]->gone());
}

TEST_F(StreamServerTest, APublisherLearnsThatAClientHasGone) {
  Start({});
  Client closes = Open(), resets = Open(), half_closes = Open();
  { Client gone = std::move(closes); }
  AwaitGone(1);
  resets.Reset();
  AwaitGone(2);
  half_closes.HalfClose();
  AwaitGone(3);
  for (auto& stream : streams_) EXPECT_FALSE(stream->Write("data: 1\n\n"));
}

TEST_F(StreamServerTest, AnIdleStreamIsKept) {
  Start({.read_timeout = std::chrono::milliseconds(20), .answer_timeout = std::chrono::milliseconds(20)});
  Client client = Open();
  EXPECT_THAT(client.ReadPast("\r\n\r\n"), StartsWith("HTTP/1.1 200"));
  Client idle(server_->port());
  EXPECT_EQ(idle.ReadToEnd(), "");  // later, therefore
  EXPECT_TRUE(streams_[0]->Write("data: 1\n\n"));
  EXPECT_THAT(client.ReadPast("\n\n"), HasSubstr("data: 1"));
}

TEST_F(StreamServerTest, StreamsHaveALimitAndLeaveRoomForProbes) {
  Start({.connections = 4, .streams = 2});
  Client first = Open(), second = Open();
  EXPECT_THAT(Exchange(server_->port(), kAsk + std::string(kAsk)),
              AllOf(StartsWith("HTTP/1.1 503"), HasSubstr("Retry-After: 1\r\n")));
  std::vector<Client> silent;
  for (int i = 0; i < 20; ++i) silent.emplace_back(server_->port());
  EXPECT_THAT(Get(server_->port(), "/quick"), StartsWith("HTTP/1.1 200"));
  EXPECT_TRUE(streams_[0]->Write("data: 1\n\n"));
  EXPECT_THAT(first.ReadPast("\n\n"), StartsWith("HTTP/1.1 200"));
  { Client gone = std::move(first); }
  AwaitGone(1);
  Client third = Open();
  EXPECT_THAT(third.ReadPast("\r\n\r\n"), StartsWith("HTTP/1.1 200"));
}

TEST_F(StreamServerTest, Http10GetsTheEventsAsTheyAre) {
  Start({});
  Client client(server_->port());
  client.Send("GET /events HTTP/1.0\r\n\r\n");
  EXPECT_THAT(client.ReadPast("\r\n\r\n"), StartsWith("HTTP/1.0 200"));
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !streams_.empty(); });
  streams_[0]->Write("data: 1\n\n");
  streams_[0]->Close();
  EXPECT_EQ(client.ReadToEnd(), "data: 1\n\n");
}

TEST_F(StreamServerTest, HeadOfAStreamIsAHeader) {
  Start({});
  EXPECT_THAT(Exchange(server_->port(), "HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("text/event-stream"), EndsWith("\r\n\r\n")));
  EXPECT_TRUE(streams_.empty());
}

TEST_F(StreamServerTest, AStreamMayOutliveTheServer) {
  Start({});
  Client client = Open();
  server_.reset();
  EXPECT_TRUE(streams_[0]->gone());
  EXPECT_FALSE(streams_[0]->Write("data: 1\n\n"));
  EXPECT_EQ(gone_, 1);
}

}  // namespace
}  // namespace ebbinghaus::http
