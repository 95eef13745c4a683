#include "server/rpc/request_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "tests/support/fake_clock.h"

namespace ebbinghaus::rpc {
namespace {

using testing::HasSubstr;

struct FakeReader final : RequestGate::Reader {
  void BeginReading() override { begun = true; }
  void StopReading(const absl::Status& status) override {
    message = std::string(status.message());
    stopped = true;
  }
  std::atomic<bool> begun = false, stopped = false;
  std::string message;  // once stopped
};

constexpr size_t kMessage = 100 << 10;

// Two messages find room at a time.
class RequestGateTest : public testing::Test {
 protected:
  struct Visit {
    std::shared_ptr<FakeReader> reader = std::make_shared<FakeReader>();
    RequestGate::Place place;
  };
  std::unique_ptr<Visit> Enter(const std::string& client, size_t bytes = kMessage) {
    auto visit = std::make_unique<Visit>();
    gate_.Enter(visit->reader, client, "inproc", bytes, &visit->place);
    return visit;
  }

  support::FakeClock clock_;
  RequestGate gate_{2 * kMessage, &clock_};
};

TEST_F(RequestGateTest, NoMoreIsLetInThanTheBudget) {
  auto first = Enter("a"), second = Enter("b"), third = Enter("c");
  EXPECT_TRUE(first->reader->begun && second->reader->begun);
  EXPECT_FALSE(third->reader->begun);
  EXPECT_EQ(gate_.held_bytes(), 2 * kMessage);
  first->place.HasRead(kMessage);
  EXPECT_FALSE(third->reader->begun);
  first->place.Leave();
  EXPECT_TRUE(third->reader->begun);
}

TEST_F(RequestGateTest, AMessageThatWasSmallMakesRoom) {
  auto first = Enter("a"), second = Enter("b"), third = Enter("c");
  first->place.HasRead(0);
  EXPECT_TRUE(third->reader->begun);
  EXPECT_EQ(gate_.held_bytes(), 2 * kMessage);
}

TEST_F(RequestGateTest, WhoHoldsLeastIsNext) {
  auto first = Enter("a"), second = Enter("a"), third = Enter("a"), other = Enter("b");
  first->place.Leave();
  EXPECT_TRUE(other->reader->begun);
  EXPECT_FALSE(third->reader->begun);
}

TEST_F(RequestGateTest, EmptyRequestsNeverWait) {
  auto first = Enter("a"), second = Enter("a"), quick = Enter("b", RequestGate::kAlwaysRoomBytes);
  EXPECT_TRUE(quick->reader->begun);
}

TEST_F(RequestGateTest, OneThatLeavesWhileItWaitsIsForgotten) {
  auto first = Enter("a"), second = Enter("b"), third = Enter("c"), fourth = Enter("d");
  third->place.Leave();
  std::weak_ptr<FakeReader> gone = third->reader;
  third.reset();
  EXPECT_TRUE(gone.expired());
  first.reset();
  EXPECT_TRUE(fourth->reader->begun);
}

TEST_F(RequestGateTest, ASenderThatTakesTooLongIsStopped) {
  auto slow = Enter("a");
  clock_.Advance(RequestGate::kPatience);
  while (!slow->reader->stopped) std::this_thread::yield();
  EXPECT_THAT(slow->reader->message, HasSubstr("20 s"));
}

TEST_F(RequestGateTest, WhileOthersWaitPatienceIsShort) {
  auto slow = Enter("a"), other = Enter("b"), waits = Enter("c");
  clock_.Advance(RequestGate::kShortPatience);
  while (!slow->reader->stopped || !other->reader->stopped) std::this_thread::yield();
  EXPECT_FALSE(waits->reader->stopped);
}

TEST_F(RequestGateTest, OneThatHasReadIsNotStopped) {
  auto read = Enter("a"), slow = Enter("b");
  read->place.HasRead(10);
  clock_.Advance(2 * RequestGate::kPatience);
  while (!slow->reader->stopped) std::this_thread::yield();
  EXPECT_FALSE(read->reader->stopped);
}

}  // namespace
}  // namespace ebbinghaus::rpc
