#include "server/scheduler/mailbox.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/support/fake_clock.h"

namespace ebbinghaus::scheduler {
namespace {

Event Token(base::TokenId id, std::string text = "") {
  TokenEvent event;
  event.token.id = id;
  event.text = std::move(text);
  return event;
}

base::TokenId IdOf(const std::optional<Event>& event) { return std::get<TokenEvent>(event.value()).token.id; }

TEST(Mailbox, GivesEventsInTheOrderTheyCame) {
  Mailbox mailbox(1000);
  EXPECT_FALSE(mailbox.Pop().has_value());
  mailbox.Push(Token(1));
  mailbox.Push(Token(2));
  EXPECT_EQ(IdOf(mailbox.Pop()), 1u);
  mailbox.Push(Token(3));
  EXPECT_EQ(IdOf(mailbox.Pop()), 2u);
  EXPECT_EQ(IdOf(mailbox.Pop()), 3u);
  EXPECT_FALSE(mailbox.Pop().has_value());
}

TEST(Mailbox, TellsOnceThatSomethingIsThere) {
  Mailbox mailbox(1000);
  int told = 0;
  mailbox.OnReady([&] { ++told; });
  EXPECT_EQ(told, 0);
  mailbox.Push(Token(1));
  mailbox.Push(Token(2));
  EXPECT_EQ(told, 1);
}

TEST(Mailbox, TellsAtOnceIfSomethingIsThereAlready) {
  Mailbox mailbox(1000);
  mailbox.Push(Token(1));
  int told = 0;
  mailbox.OnReady([&] { ++told; });
  EXPECT_EQ(told, 1);
  mailbox.Push(Token(2));
  EXPECT_EQ(told, 1);
}

TEST(Mailbox, ANewCallbackReplacesTheOldOne) {
  Mailbox mailbox(1000);
  int first = 0, second = 0;
  mailbox.OnReady([&] { ++first; });
  mailbox.OnReady([&] { ++second; });
  mailbox.Push(Token(1));
  EXPECT_EQ(first, 0);
  EXPECT_EQ(second, 1);
}

TEST(Mailbox, CallbacksMayUseTheMailboxAndDieWhileItIsUsed) {
  Mailbox mailbox(1000);
  struct UsesItAtTheEnd {
    explicit UsesItAtTheEnd(Mailbox* m) : mailbox(m) {}
    ~UsesItAtTheEnd() { mailbox->full(); }
    Mailbox* mailbox;
  };
  std::optional<Event> popped;
  mailbox.OnReady([keep = std::make_shared<UsesItAtTheEnd>(&mailbox)] {});
  mailbox.OnReady([&mailbox, &popped, keep = std::make_shared<UsesItAtTheEnd>(&mailbox)] {
    popped = mailbox.Pop();
    mailbox.OnReady([] {});
  });
  mailbox.Push(Token(5));
  EXPECT_EQ(IdOf(popped), 5u);
}

TEST(Mailbox, IsFullFromItsCapacityOnYetLosesNothing) {
  Mailbox mailbox(10 * sizeof(Event));
  int events = 0;
  while (!mailbox.full()) mailbox.Push(Token(static_cast<base::TokenId>(events++)));
  EXPECT_EQ(events, 10);
  mailbox.Push(Token(10));
  for (base::TokenId id = 0; id <= 10; ++id) EXPECT_EQ(IdOf(mailbox.Pop()), id);
  EXPECT_FALSE(mailbox.full());
}

TEST(Mailbox, CountsWhatAnEventCarries) {
  Mailbox mailbox(100'000);
  mailbox.Push(Token(1, std::string(100'000, 'x')));
  EXPECT_TRUE(mailbox.full());

  Mailbox weights(100'000);
  MemoryEvent event;
  event.token_weights.resize(1);
  event.token_weights[0].retention.resize(25'000);
  weights.Push(std::move(event));
  EXPECT_TRUE(weights.full());

  Mailbox attention(100'000);
  TokenEvent rows;
  rows.token.attention.resize(1);
  rows.token.attention[0].positions.resize(25'000);
  attention.Push(std::move(rows));
  EXPECT_TRUE(attention.full());
}

TEST(Mailbox, WakesTheSchedulerWhenAFullMailboxHasRoomAgain) {
  Mailbox mailbox(2 * sizeof(Event));
  int woken = 0;
  mailbox.SetWake([&] { ++woken; });
  for (base::TokenId id = 0; id < 4; ++id) mailbox.Push(Token(id));
  mailbox.Pop();
  mailbox.Pop();
  EXPECT_EQ(woken, 0);  // two are left: still full
  mailbox.Pop();
  EXPECT_EQ(woken, 1);
  mailbox.Pop();
  mailbox.Pop();
  EXPECT_EQ(woken, 1);
}

TEST(Mailbox, CancelWakesTheSchedulerOnceAndIsDated) {
  support::FakeClock clock;
  Mailbox mailbox(1000, &clock);
  int woken = 0;
  mailbox.SetWake([&] { ++woken; });
  EXPECT_FALSE(mailbox.cancelled());
  EXPECT_FALSE(mailbox.cancelled_at().has_value());
  const base::TimePoint when = clock.Now();
  mailbox.Cancel();
  clock.Advance(std::chrono::seconds(1));
  mailbox.Cancel();
  EXPECT_TRUE(mailbox.cancelled());
  EXPECT_EQ(mailbox.cancelled_at(), when);
  EXPECT_EQ(woken, 1);
}

TEST(Mailbox, AfterCancelOnlyTheEndingStatusIsKept) {
  Mailbox mailbox(1);
  mailbox.Push(Token(1));
  EXPECT_TRUE(mailbox.full());
  mailbox.Cancel();
  EXPECT_FALSE(mailbox.full());
  mailbox.Push(Token(2));
  mailbox.Push(absl::CancelledError("gone"));
  const std::optional<Event> event = mailbox.Pop();
  ASSERT_TRUE(event.has_value());
  EXPECT_EQ(std::get<absl::Status>(*event).code(), absl::StatusCode::kCancelled);
}

TEST(Mailbox, AbandonDropsWhatWaitsAndHangsUpOnce) {
  Mailbox mailbox(1000);
  int hung_up = 0;
  mailbox.SetHangUp([&] {
    ++hung_up;
    EXPECT_TRUE(mailbox.cancelled()) << "called outside the lock";
  });
  mailbox.Push(Token(1));
  mailbox.Abandon();
  mailbox.Abandon();
  EXPECT_EQ(hung_up, 1);
  EXPECT_FALSE(mailbox.Pop().has_value());
  mailbox.Push(absl::CancelledError("slow"));
  EXPECT_TRUE(mailbox.Pop().has_value());
}

TEST(Mailbox, ACancelledStreamEndsWithAStatusAlsoIfItHadFinished) {
  Mailbox before(1000), after(1000);
  before.Push(Token(1));
  before.Push(Finished());
  before.Cancel();
  after.Cancel();
  after.Push(Finished());
  Mailbox failed(1000);
  failed.Push(absl::InternalError("broken"));
  failed.Cancel();
  const std::pair<Mailbox*, absl::StatusCode> cases[] = {{&before, absl::StatusCode::kCancelled},
                                                         {&after, absl::StatusCode::kCancelled},
                                                         {&failed, absl::StatusCode::kInternal}};
  for (const auto& [mailbox, code] : cases) {
    const std::optional<Event> event = mailbox->Pop();
    ASSERT_TRUE(event.has_value());
    EXPECT_EQ(std::get<absl::Status>(*event).code(), code);
    EXPECT_FALSE(mailbox->Pop().has_value());
  }
}

TEST(Mailbox, AReaderAndAWriterOnTwoThreadsLoseNothing) {
  constexpr base::TokenId kEvents = 20'000;
  Mailbox mailbox(8 * sizeof(Event));
  std::mutex mutex;
  std::condition_variable room;
  bool woken = false;
  mailbox.SetWake([&] {
    std::lock_guard lock(mutex);
    woken = true;
    room.notify_one();
  });
  std::thread writer([&] {
    for (base::TokenId id = 0; id < kEvents; ++id) {
      if (mailbox.full()) {
        std::unique_lock lock(mutex);
        room.wait(lock, [&] { return woken || !mailbox.full(); });
        woken = false;
      }
      mailbox.Push(Token(id));
    }
  });
  std::condition_variable ready;
  bool is_ready = false;
  std::mutex ready_mutex;
  for (base::TokenId next = 0; next < kEvents;) {
    while (std::optional<Event> event = mailbox.Pop()) {
      ASSERT_EQ(IdOf(event), next);
      ++next;
    }
    if (next == kEvents) break;
    mailbox.OnReady([&] {
      std::lock_guard lock(ready_mutex);
      is_ready = true;
      ready.notify_one();
    });
    std::unique_lock lock(ready_mutex);
    ready.wait(lock, [&] { return is_ready; });
    is_ready = false;
  }
  writer.join();
  EXPECT_FALSE(mailbox.Pop().has_value());
}

TEST(Mailbox, IsDoneWhenItsEndWasTakenAndItsCallIsOver) {
  Mailbox mailbox(1 << 20);
  mailbox.SetHangUp([] {});
  mailbox.Push(Finished{});
  EXPECT_FALSE(mailbox.done());
  EXPECT_TRUE(mailbox.Pop().has_value());
  EXPECT_FALSE(mailbox.done()) << "the last write may be stuck";
  mailbox.SetHangUp(nullptr);
  EXPECT_TRUE(mailbox.done());
}

TEST(Mailbox, LargeEventsAreToldByTheCourierAndSmallOnesAtOnce) {
  const auto courier = std::make_shared<Courier>();
  Mailbox mailbox(1 << 20);
  mailbox.SetCourier(courier);
  MemoryEvent large;
  large.forgotten.resize(kLargeEventBytes / sizeof(base::ForgetEvent) + 1);
  std::thread::id told_on;
  mailbox.OnReady([&] { told_on = std::this_thread::get_id(); });
  mailbox.Push(TokenEvent{});
  EXPECT_EQ(told_on, std::this_thread::get_id());
  EXPECT_FALSE(mailbox.for_courier());
  EXPECT_TRUE(mailbox.Pop().has_value());

  for (const bool is_there : {false, true}) {
    std::promise<bool> told;
    const auto tell = [&] { told.set_value(Courier::Here() && !mailbox.for_courier() && mailbox.Pop().has_value()); };
    if (!is_there) mailbox.OnReady(tell);
    mailbox.Push(large);
    if (is_there) mailbox.OnReady(tell);
    EXPECT_TRUE(told.get_future().get());
  }
  mailbox.Push(large);
  EXPECT_TRUE(mailbox.for_courier());
}

TEST(Courier, MayBeDestroyedByItsOwnTaskAndRunsAllItWasGiven) {
  auto courier = std::make_shared<Courier>();
  std::promise<int> ran;
  Courier* const c = courier.get();
  c->Post([held = std::move(courier), &ran] {
    held->Post([held, &ran] { ran.set_value(1); });
  });
  EXPECT_EQ(ran.get_future().get(), 1);
}

}  // namespace
}  // namespace ebbinghaus::scheduler
