#include "server/scheduler/waiting_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "server/base/retry.h"
#include "tests/support/fake_clock.h"

namespace ebbinghaus::scheduler {
namespace {

using metrics::Rejection;
using ::testing::HasSubstr;

class WaitingQueueTest : public ::testing::Test {
 protected:
  std::optional<Refusal> Push(const std::string& id, size_t tokens = 1,
                              std::optional<base::TimePoint> deadline = std::nullopt, const std::string& client = "") {
    auto spec = std::make_shared<base::SequenceSpec>();
    spec->prompt.resize(tokens);
    auto request = std::make_unique<QueuedRequest>();
    request->request.request_id = id;
    request->request.spec = spec;
    request->request.deadline = deadline;
    request->request.client = {client, client};
    request->queued = clock_.Now();
    return queue_->Push(std::move(request));
  }
  QueuedRequest* TakeNext(absl::Span<QueuedRequest* const> skipped = {}) {
    std::unique_ptr<QueuedRequest> taken = queue_->Take(queue_->Next(skipped));
    return (taken_[taken->request.request_id] = std::move(taken)).get();
  }
  std::optional<Refusal> CheckOpen(const std::string& client = "") {
    return queue_->CheckOpen({client, client}, clock_.Now());
  }
  void Release(const std::string& id) {
    queue_->Release(*taken_.at(id));
    taken_.erase(id);
  }
  // Whom the queue gave up, in the order in which they came.
  std::string Evicted() {
    std::string ids;
    for (const auto& evicted : queue_->TakeEvicted()) ids += evicted->request.request_id + " ";
    return ids;
  }
  // Takes everything, and tells in which order.
  std::string TakeAll() {
    std::string order;
    while (queue_->Next() != nullptr) order += TakeNext()->request.request_id + " ";
    return order;
  }

  support::FakeClock clock_;
  metrics::Metrics metrics_{&clock_};
  std::map<std::string, std::unique_ptr<QueuedRequest>> taken_;  // and not released
  std::optional<WaitingQueue> queue_{std::in_place, QueueLimits{2, 3, 100}, &metrics_};
};

TEST_F(WaitingQueueTest, ServesFirstComeFirst) {
  for (const char* id : {"a", "b", "c"}) EXPECT_FALSE(Push(id).has_value());
  EXPECT_EQ(queue_->Next()->request.request_id, "a");
  EXPECT_EQ(TakeNext()->request.request_id, "a");
  EXPECT_EQ(TakeNext()->request.request_id, "b");
  EXPECT_EQ(TakeNext()->request.request_id, "c");
  EXPECT_EQ(queue_->Next(), nullptr);
}

class TurnsTest : public WaitingQueueTest {
 protected:
  TurnsTest() { queue_.emplace(QueueLimits{2, 20, 100}, &metrics_); }
};

TEST_F(TurnsTest, AClientWhoComesLaterIsNextAfterOneWhoHasManyWaiting) {
  for (const char* id : {"a1", "a2", "a3", "a4"}) Push(id, 1, std::nullopt, "a");
  EXPECT_EQ(TakeNext()->request.request_id, "a1");
  Push("b1", 1, std::nullopt, "b");
  Push("b2", 1, std::nullopt, "b");
  EXPECT_EQ(TakeAll(), "b1 a2 b2 a3 a4 ");
}

TEST_F(TurnsTest, WhoAsksAgainAtOnceDoesNotJumpAQueueThatWaits) {
  for (const char* id : {"a1", "a2", "a3"}) Push(id, 1, std::nullopt, "a");
  Push("b1", 1, std::nullopt, "b");
  EXPECT_EQ(TakeNext()->request.request_id, "a1");
  EXPECT_EQ(TakeNext()->request.request_id, "b1");
  Push("b2", 1, std::nullopt, "b");
  EXPECT_EQ(TakeNext()->request.request_id, "a2");
  Push("c1", 1, std::nullopt, "c");
  EXPECT_EQ(TakeAll(), "b2 c1 a3 ");
}

TEST_F(TurnsTest, WhoIsSkippedKeepsItsTurn) {
  Push("a1", 1, std::nullopt, "a");
  Push("a2", 1, std::nullopt, "a");
  Push("b1", 1, std::nullopt, "b");
  QueuedRequest* const blocked[] = {queue_->Next()};
  EXPECT_EQ(queue_->Next(blocked)->request.request_id, "a2");
  EXPECT_EQ(TakeNext(blocked)->request.request_id, "a2");
  EXPECT_EQ(queue_->Next(blocked)->request.request_id, "b1");
  EXPECT_EQ(TakeAll(), "b1 a1 ");
}

TEST_F(TurnsTest, ManyClientsThatComeAndGoAreForgotten) {
  Push("waits", 1, std::nullopt, "patient");
  QueuedRequest* const patient[] = {queue_->Next()};
  for (int i = 0; i < 20'000; ++i) {
    ASSERT_FALSE(Push("r", 1, std::nullopt, std::to_string(i)).has_value());
    ASSERT_EQ(TakeNext(patient)->request.request_id, "r");
    Release("r");
  }
  EXPECT_EQ(queue_->remembered_owners(), 1u);
}

TEST_F(WaitingQueueTest, WhoFindsItFullComesBackTheLaterTheLongerOthersHaveWaited) {
  using std::chrono::milliseconds;
  const auto hint = [&] { return base::RetryDelay(CheckOpen()->status); };
  Push("first");
  clock_.Advance(milliseconds(500));
  for (const char* id : {"b", "c", "d", "e"}) Push(id);
  EXPECT_EQ(hint(), milliseconds(1000));
  EXPECT_EQ(base::RetryDelay(Push("f")->status), milliseconds(1000));
  clock_.Advance(milliseconds(15'500));
  EXPECT_EQ(hint(), milliseconds(2000));
  EXPECT_EQ(base::RetryDelay(Push("f")->status), milliseconds(2000));
  TakeNext();  // the next one came half a second later, and that is how long the queue has been
  clock_.Advance(milliseconds(8'500));
  EXPECT_EQ(hint(), milliseconds(3000));
  clock_.Advance(std::chrono::hours(1));
  EXPECT_EQ(hint(), milliseconds(10'000));
}

TEST_F(WaitingQueueTest, HoldsAQueueBesideWhatTheFreeSlotsCanTake) {
  for (const char* id : {"a", "b", "c", "d", "e"}) EXPECT_FALSE(Push(id).has_value()) << id;
  std::optional<Refusal> refusal = Push("f");
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->reason, Rejection::kQueueFull);
  EXPECT_EQ(refusal->status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refusal->status.message()), HasSubstr("max-queue 3"));
  EXPECT_THAT(std::string(refusal->status.message()), HasSubstr("retry"));
  EXPECT_TRUE(CheckOpen().has_value());
  TakeNext();
  EXPECT_TRUE(Push("f").has_value()) << "it runs, it has not left";
  Release("a");
  EXPECT_FALSE(CheckOpen().has_value());
  EXPECT_FALSE(Push("f").has_value());
}

TEST_F(WaitingQueueTest, BoundsTheTokensThatWaitButNeverShutsOutAClientsFirstRequest) {
  EXPECT_FALSE(Push("huge", 500).has_value());
  std::optional<Refusal> refusal = Push("b", 1);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->reason, Rejection::kQueueTokens);
  EXPECT_THAT(std::string(refusal->status.message()), HasSubstr("max-queue-tokens 100"));
  EXPECT_FALSE(Push("other", 1, std::nullopt, "b").has_value()) << "another client's first";
  EXPECT_TRUE(Push("others", 1, std::nullopt, "b").has_value());
  TakeNext();
  TakeNext();
  EXPECT_FALSE(Push("b", 60).has_value());
  EXPECT_FALSE(Push("c", 40).has_value());
  EXPECT_TRUE(Push("d", 1).has_value());
  EXPECT_EQ(queue_->waiting().prompt_tokens, 100u);
  EXPECT_EQ(queue_->waiting().requests, 2u);
}

TEST_F(WaitingQueueTest, AnIdIsTakenUntilItsRequestIsReleased) {
  EXPECT_FALSE(Push("a").has_value());
  EXPECT_EQ(Push("a")->status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(Push("a")->reason, Rejection::kDuplicateId);
  TakeNext();
  EXPECT_EQ(Push("a")->status.code(), absl::StatusCode::kAlreadyExists);
  Release("a");
  EXPECT_FALSE(Push("a").has_value());
}

TEST_F(WaitingQueueTest, AnIdIsItsOwnersAndInNobodyElsesWay) {
  EXPECT_FALSE(Push("id", 1, std::nullopt, "a").has_value());
  EXPECT_FALSE(Push("id", 1, std::nullopt, "b").has_value());
  EXPECT_EQ(Push("id", 1, std::nullopt, "b")->status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(queue_->TakeIf([](const QueuedRequest& r) { return r.request.client.owner == "a"; }).size(), 1u);
  EXPECT_FALSE(Push("id", 1, std::nullopt, "a").has_value());
  EXPECT_EQ(Push("id", 1, std::nullopt, "b")->status.code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(WaitingQueueTest, AClientThatFilledBatchAndQueueMakesRoomForAnother) {
  for (const char* id : {"a1", "a2", "a3", "a4", "a5"}) EXPECT_FALSE(Push(id, 1, std::nullopt, "a").has_value());
  TakeNext();
  TakeNext();
  EXPECT_TRUE(CheckOpen("a").has_value());
  EXPECT_FALSE(CheckOpen("b").has_value());
  EXPECT_FALSE(Push("b1", 1, std::nullopt, "b").has_value());
  EXPECT_EQ(Evicted(), "a5 ");
  EXPECT_EQ(Evicted(), "");
  EXPECT_EQ(queue_->waiting().requests, 3u);
  EXPECT_EQ(queue_->waiting().prompt_tokens, 3u);
  EXPECT_EQ(queue_->WhyEvicted(clock_.Now()).status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(base::RetryDelay(queue_->WhyEvicted(clock_.Now()).status).has_value());
  EXPECT_FALSE(Push("b2", 1, std::nullopt, "b").has_value());
  EXPECT_EQ(Evicted(), "a4 ");
  EXPECT_TRUE(Push("b3", 1, std::nullopt, "b").has_value()) << "three against two";
  EXPECT_FALSE(Push("a4", 1, std::nullopt, "c").has_value()) << "a3 goes: a has three, the others less";
  EXPECT_EQ(Evicted(), "a3 ");
  EXPECT_EQ(TakeAll(), "b1 a4 b2 ");
}

TEST_F(WaitingQueueTest, WhoGetsItsTurnWhileItLosesItsPlaceHasHadItsTurn) {
  for (const char* id : {"a1", "a2", "a3", "a4", "a5"}) Push(id, 1, std::nullopt, "a");
  QueuedRequest* skip[] = {nullptr, nullptr, nullptr, nullptr};
  for (int i = 0; i < 4; ++i) skip[i] = queue_->Next({skip, static_cast<size_t>(i)});
  QueuedRequest* const last = queue_->Next(skip);
  EXPECT_FALSE(Push("b1", 1, std::nullopt, "b").has_value());
  const std::unique_ptr<QueuedRequest> taken = queue_->Take(last);
  EXPECT_EQ(taken->request.request_id, "a5");
  EXPECT_EQ(Evicted(), "");
  EXPECT_EQ(Push("a5", 1, std::nullopt, "a")->status.code(), absl::StatusCode::kAlreadyExists);
  queue_->Release(*taken);
  EXPECT_EQ(TakeAll(), "b1 a1 a2 a3 a4 ");
}

TEST_F(WaitingQueueTest, WhereMemoryIsShortNoMoreWaitThanMaxQueue) {
  for (const char* id : {"a", "b", "c", "d", "e"}) EXPECT_FALSE(Push(id).has_value());
  queue_->SetMemoryShort(true);
  EXPECT_EQ(Evicted(), "d e ");
  EXPECT_TRUE(Push("f").has_value());
  queue_->SetMemoryShort(false);
  EXPECT_FALSE(Push("f").has_value());
  EXPECT_EQ(queue_->waiting().requests, 4u);
}

TEST_F(WaitingQueueTest, RefusesEverythingOnceClosedButKeepsWhatWaits) {
  EXPECT_FALSE(Push("a").has_value());
  queue_->Close();
  EXPECT_EQ(CheckOpen()->status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Push("b")->reason, Rejection::kDraining);
  EXPECT_EQ(TakeNext()->request.request_id, "a");
}

TEST_F(WaitingQueueTest, LetsTheChosenLeaveAndKeepsTheOrderOfTheOthers) {
  for (const char* id : {"a", "b", "c", "d"}) EXPECT_FALSE(Push(id, 10).has_value());
  const auto taken = queue_->TakeIf([](const QueuedRequest& r) { return r.request.request_id >= "c"; });
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0]->request.request_id, "c");
  EXPECT_EQ(queue_->waiting().prompt_tokens, 20u);
  EXPECT_EQ(TakeNext()->request.request_id, "a");
  EXPECT_EQ(TakeNext()->request.request_id, "b");
}

TEST_F(WaitingQueueTest, KnowsTheEarliestDeadline) {
  EXPECT_EQ(queue_->EarliestDeadline(), std::nullopt);
  const base::TimePoint now = clock_.Now();
  Push("a");
  EXPECT_EQ(queue_->EarliestDeadline(), std::nullopt);
  Push("b", 1, now + std::chrono::seconds(9));
  Push("c", 1, now + std::chrono::seconds(3));
  EXPECT_EQ(queue_->EarliestDeadline(), now + std::chrono::seconds(3));
}

TEST_F(WaitingQueueTest, ShowsWhatWaitsInTheGauges) {
  Push("a", 7);
  Push("b", 5);
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("\nebbinghaus_queued_prompt_tokens 12\n"));
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("\nebbinghaus_requests_queued 2\n"));
  TakeNext();
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("\nebbinghaus_queued_prompt_tokens 5\n"));
  queue_->TakeIf([](const QueuedRequest&) { return true; });
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("\nebbinghaus_requests_queued 0\n"));
}

}  // namespace
}  // namespace ebbinghaus::scheduler
