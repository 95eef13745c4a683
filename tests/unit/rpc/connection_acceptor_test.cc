#include "server/rpc/connection_acceptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <optional>

#include "server/scheduler/log.h"
#include "tests/unit/http/client.h"

namespace ebbinghaus::rpc {
namespace {

using http::Client;

class ConnectionAcceptorTest : public testing::Test {
 protected:
  void SetUp() override {
    scheduler::LogOptions options;
    options.sink = [this](std::string_view line) {
      std::lock_guard lock(mutex_);
      log_ += line;
      changed_.notify_all();
    };
    scheduler::ConfigureLog(std::move(options));
    auto acceptor = ConnectionAcceptor::Listen("127.0.0.1", 0);
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = *std::move(acceptor);
  }
  void TearDown() override {
    if (before_) setrlimit(RLIMIT_NOFILE, &*before_);
    acceptor_.reset();
    for (const int connection : accepted_) close(connection);
    scheduler::ConfigureLog({});
  }

  void Begin() {
    acceptor_->Begin([this](int, int connection) {
      std::lock_guard lock(mutex_);
      accepted_.push_back(connection);
      changed_.notify_all();
    });
  }
  void AwaitAccepted(size_t number) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return accepted_.size() >= number; });
  }
  void AwaitWarning(const std::string& event) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return log_.find(event) != log_.npos; });
  }
  // Lets the process have `more` descriptors beside those that are open.
  void AllowDescriptors(rlim_t more) {
    before_.emplace();
    getrlimit(RLIMIT_NOFILE, &*before_);
    const int next = dup(0);
    close(next);
    const rlimit few{static_cast<rlim_t>(next) + more, before_->rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> accepted_;  // guarded by mutex_
  std::string log_;            // guarded by mutex_
  std::optional<rlimit> before_;
  std::unique_ptr<ConnectionAcceptor> acceptor_;
};

TEST_F(ConnectionAcceptorTest, HandsOverWhatConnects) {
  Client early(acceptor_->port());
  Begin();
  Client late(acceptor_->port());
  AwaitAccepted(2);
}

TEST_F(ConnectionAcceptorTest, GoesOnAfterDescriptorsRanOut) {
  Client waiting(acceptor_->port());
  AllowDescriptors(0);
  Begin();
  AwaitWarning("grpc_accept_failed");
  EXPECT_TRUE(waiting.IsSilent());
  setrlimit(RLIMIT_NOFILE, &*before_);
  AwaitAccepted(1);
}

TEST_F(ConnectionAcceptorTest, TheLastDescriptorsAreLeftToOthers) {
  Client refused(acceptor_->port());
  AllowDescriptors(1);
  Begin();
  EXPECT_EQ(refused.ReadToEnd(), "");
  AwaitWarning("grpc_connection_refused");
  setrlimit(RLIMIT_NOFILE, &*before_);
  Client taken(acceptor_->port());
  AwaitAccepted(1);
  EXPECT_TRUE(taken.IsSilent());
}

TEST_F(ConnectionAcceptorTest, NothingIsHandedOverOnceItHasStopped) {
  Begin();
  { Client client(acceptor_->port()); }
  AwaitAccepted(1);
  acceptor_->Stop();
  acceptor_->Stop();
  EXPECT_TRUE(ConnectionAcceptor::Listen("127.0.0.1", acceptor_->port()).ok()) << "the port is free";
  EXPECT_EQ(accepted_.size(), 1);
}

TEST_F(ConnectionAcceptorTest, APortInUseIsNeverShared) {
  auto second = ConnectionAcceptor::Listen("127.0.0.1", acceptor_->port());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace ebbinghaus::rpc
