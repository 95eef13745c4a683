// The scheduler with its thread: what the loop's own tests cannot show.
#include "server/scheduler/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/scheduler/log.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_engine.h"
#include "tests/support/stream_reader.h"

namespace ebbinghaus::scheduler {
namespace {

using base::FinishReason;
using std::chrono::milliseconds;
using std::chrono::seconds;
using support::StreamReader;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Waits, as a client does, until the stream has ended.
void ReadToTheEnd(Mailbox& mailbox, StreamReader& stream) {
  std::mutex mutex;
  std::condition_variable condition;
  bool ready = false;
  for (;;) {
    stream.ReadAll(mailbox);
    if (stream.ended()) return;
    mailbox.OnReady([&] {
      std::lock_guard lock(mutex);
      ready = true;
      condition.notify_one();
    });
    std::unique_lock lock(mutex);
    condition.wait(lock, [&] { return ready; });
    ready = false;
  }
}

// Stops whoever passes until it is opened.
class Gate {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    condition_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    condition_.notify_all();
    condition_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void WaitForSomebody() {
    std::unique_lock lock(mutex_);
    condition_.wait(lock, [this] { return waiting_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable condition_;
  bool open_ = false;
  int waiting_ = 0;
};

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() { ConfigureLog({LogFormat::kText, LogLevel::kOff, nullptr}); }
  ~SchedulerTest() override {
    scheduler_.reset();
    EXPECT_EQ(script_->sequences(), 0u);
    EXPECT_THAT(script_->broken_promises(), IsEmpty());
    ConfigureLog({});
  }

  void Start() {
    scheduler_.emplace(options_, std::make_unique<support::FakeEngine>(script_), support::ByteTextModel(), &metrics_,
                       &clock_);
  }
  static GenerationRequest Ask(std::string text, uint32_t max_new_tokens, std::string id = "") {
    GenerationRequest request;
    request.input = std::move(text);
    request.max_new_tokens = max_new_tokens;
    request.request_id = std::move(id);
    return request;
  }
  absl::StatusOr<std::shared_ptr<Mailbox>> Submit(GenerationRequest request) {
    request.arrival = clock_.Now();
    violations_ = {};
    return scheduler_->Submit(std::move(request), &violations_);
  }
  std::shared_ptr<Mailbox> MustSubmit(GenerationRequest request) {
    auto mailbox = Submit(std::move(request));
    EXPECT_TRUE(mailbox.ok()) << mailbox.status();
    return mailbox.ok() ? *mailbox : nullptr;
  }

  base::SteadyClock clock_;
  metrics::Metrics metrics_{&clock_};
  std::shared_ptr<support::EngineScript> script_ = std::make_shared<support::EngineScript>();
  Options options_;
  base::Violations violations_;
  Gate gate_;  // outlives the scheduler, whose thread may still pass when a test ends
  std::optional<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, StreamsARequestToItsEndAndSleepsAfterwards) {
  Start();
  StreamReader stream;
  ReadToTheEnd(*MustSubmit(Ask("hello", 5, "mine")), stream);
  EXPECT_EQ(stream.order, "StttttF");
  EXPECT_EQ(stream.text(), "abcde");
  EXPECT_EQ(stream.started->request_id, "mine");
  EXPECT_EQ(scheduler_->status().running, 0u);
  EXPECT_EQ(scheduler_->status().kv_used_bytes, 0u);
  EXPECT_EQ(script_->steps().size(), 5u) << "no step without work";
}

TEST_F(SchedulerTest, TellsItsModelAndCapacity) {
  Start();
  EXPECT_EQ(scheduler_->model().name, "fake");
  EXPECT_EQ(scheduler_->status().kv_capacity_bytes, script_->capacity_tokens * 100);
  EXPECT_EQ(scheduler_->status().state, Status::State::kServing);
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("ebbinghaus_model_info{"));
}

TEST_F(SchedulerTest, BadInputComesBackAtOnceWithItsViolations) {
  Start();
  GenerationRequest request = Ask("", 5);
  request.sampling.temperature = 9;
  const auto refused = Submit(request);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("temperature"));
  EXPECT_EQ(violations_.all().size(), 2u);
  const std::string page = metrics_.Serialize();
  EXPECT_THAT(page, HasSubstr("requests_total{code=\"INVALID_ARGUMENT\",mode=\"baseline\"} 1"));
  EXPECT_THAT(page, HasSubstr("requests_rejected_total{reason=\"invalid_argument\"} 1"));
}

TEST_F(SchedulerTest, ARefusedRequestHasAnIdInTheLog) {
  std::vector<std::string> log;
  ConfigureLog({LogFormat::kText, LogLevel::kInfo, [&log](std::string_view line) { log.emplace_back(line); }});
  Start();
  EXPECT_FALSE(Submit(Ask("", 5)).ok());
  EXPECT_FALSE(Submit(Ask("", 5, "mine")).ok());
  scheduler_->Drain(base::Duration::zero());
  EXPECT_FALSE(Submit(Ask("x", 5)).ok());
  ASSERT_EQ(log.size(), 3u);
  EXPECT_THAT(log[0], HasSubstr("id=req-"));
  EXPECT_THAT(log[1], HasSubstr("id=mine"));
  EXPECT_THAT(log[2], HasSubstr("id=req-"));
}

TEST_F(SchedulerTest, RefusesWhenTheQueueIsFullAndTakesMoreWhenOneHasLeft) {
  script_->on_step = [&](const auto&) { gate_.Pass(); };
  options_.max_batch = 1;
  options_.max_queue = 2;
  Start();
  std::vector<std::shared_ptr<Mailbox>> mailboxes;
  for (int i = 0; i < 3; ++i) mailboxes.push_back(MustSubmit(Ask("x", 2)));
  gate_.WaitForSomebody();
  const auto refused = Submit(Ask("x", 2));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("max-queue 2"));
  EXPECT_EQ(scheduler_->status().queued, 2u);
  EXPECT_EQ(scheduler_->status().queued_prompt_tokens, 2u);
  gate_.Open();
  for (const auto& mailbox : mailboxes) {
    StreamReader stream;
    ReadToTheEnd(*mailbox, stream);
    EXPECT_TRUE(stream.finished.has_value());
  }
  StreamReader stream;
  ReadToTheEnd(*MustSubmit(Ask("x", 2)), stream);
  EXPECT_TRUE(stream.finished.has_value());
}

TEST_F(SchedulerTest, AnActiveIdIsRefusedAndFreeAgainOnceItsStreamHasEnded) {
  script_->on_step = [&](const auto&) { gate_.Pass(); };
  Start();
  const auto first = MustSubmit(Ask("x", 2, "id"));
  EXPECT_EQ(Submit(Ask("y", 2, "id")).status().code(), absl::StatusCode::kAlreadyExists);
  gate_.Open();
  StreamReader stream;
  ReadToTheEnd(*first, stream);
  EXPECT_TRUE(Submit(Ask("y", 2, "id")).ok());
}

TEST_F(SchedulerTest, ACancelledRequestEndsWhileOthersGoOn) {
  script_->on_step = [&](const auto&) { gate_.Pass(); };
  Start();
  const auto a = MustSubmit(Ask("x", 900)), b = MustSubmit(Ask("y", 20));
  gate_.WaitForSomebody();
  a->Cancel();
  gate_.Open();
  StreamReader cancelled, other;
  ReadToTheEnd(*a, cancelled);
  ReadToTheEnd(*b, other);
  EXPECT_EQ(cancelled.status->code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(other.tokens.size(), 20u);
}

TEST_F(SchedulerTest, APausedReaderIsWokenByReadingAndByCancelling) {
  options_.mailbox_bytes = 4 * sizeof(Event);
  Start();
  StreamReader stream;
  ReadToTheEnd(*MustSubmit(Ask("x", 200)), stream);
  EXPECT_EQ(stream.tokens.size(), 200u);
  const auto a = MustSubmit(Ask("x", 200));
  a->Cancel();
  StreamReader cancelled;
  ReadToTheEnd(*a, cancelled);
  EXPECT_TRUE(cancelled.status.has_value());
}

TEST_F(SchedulerTest, ADeadlineWakesTheThreadEvenIfNobodyReads) {
  options_.mailbox_bytes = 4 * sizeof(Event);
  Start();
  GenerationRequest request = Ask("x", 200);
  request.deadline = clock_.Now() + milliseconds(20);
  const auto mailbox = MustSubmit(request);
  // Not reading a single event: only the deadline can end this.
  for (Status now = scheduler_->status(); now.running + now.queued > 0; now = scheduler_->status()) {
    std::this_thread::yield();
  }
  StreamReader stream;
  ReadToTheEnd(*mailbox, stream);
  EXPECT_EQ(stream.status->code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(SchedulerTest, DrainingRefusesNewRequestsFinishesOldOnesAndThenHasStopped) {
  script_->on_step = [&](const auto&) { gate_.Pass(); };
  options_.max_batch = 1;
  Start();
  const auto a = MustSubmit(Ask("x", 5)), b = MustSubmit(Ask("y", 5));
  gate_.WaitForSomebody();
  std::thread drain([&] { scheduler_->Drain(seconds(600)); });
  while (scheduler_->status().state != Status::State::kDraining) std::this_thread::yield();
  EXPECT_EQ(Submit(Ask("z", 5)).status().code(), absl::StatusCode::kUnavailable);
  gate_.Open();
  drain.join();
  EXPECT_EQ(scheduler_->status().state, Status::State::kStopped);
  for (const auto& mailbox : {a, b}) {
    StreamReader stream;
    ReadToTheEnd(*mailbox, stream);
    EXPECT_EQ(stream.finished->reason, FinishReason::kLength);
  }
  scheduler_->Drain(base::Duration::zero());  // again: nothing to do
}

TEST_F(SchedulerTest, DestructionEndsEveryStreamAndMailboxesOutliveIt) {
  options_.max_batch = 2;
  options_.mailbox_bytes = 3 * sizeof(Event);
  Start();
  std::vector<std::shared_ptr<Mailbox>> mailboxes;
  for (int i = 0; i < 6; ++i) mailboxes.push_back(MustSubmit(Ask("x", 900)));
  while (scheduler_->status().running < 2) std::this_thread::yield();
  scheduler_.reset();
  for (const auto& mailbox : mailboxes) {
    StreamReader stream;
    ReadToTheEnd(*mailbox, stream);
    if (stream.finished) {
      EXPECT_EQ(stream.finished->reason, FinishReason::kDraining);
    } else {
      EXPECT_EQ(stream.status->code(), absl::StatusCode::kUnavailable);
    }
    mailbox->Cancel();  // rings a scheduler that is gone
  }
}

TEST_F(SchedulerTest, ASecondDrainCutsALongOneShort) {
  options_.mailbox_bytes = 3 * sizeof(Event);
  Start();
  const auto mailbox = MustSubmit(Ask("x", 900));  // pauses: nobody reads
  std::thread drain([&] { scheduler_->Drain(std::chrono::hours(1)); });
  while (scheduler_->status().state != Status::State::kDraining) std::this_thread::yield();
  while (!mailbox->full()) std::this_thread::yield();
  scheduler_->BeginDrain(base::Duration::zero());
  drain.join();
  EXPECT_EQ(scheduler_->status().state, Status::State::kStopped);
  StreamReader stream;
  ReadToTheEnd(*mailbox, stream);
  EXPECT_EQ(stream.finished->reason, FinishReason::kDraining);
}

TEST_F(SchedulerTest, DestructionCutsALongDrainShort) {
  options_.mailbox_bytes = 3 * sizeof(Event);
  Start();
  const auto mailbox = MustSubmit(Ask("x", 900));  // pauses: nobody reads
  std::thread drain([&] { scheduler_->Drain(std::chrono::hours(1)); });
  while (scheduler_->status().state != Status::State::kDraining) std::this_thread::yield();
  mailbox->Cancel();
  drain.join();
  EXPECT_EQ(scheduler_->status().state, Status::State::kStopped);
}

// Many threads at once: submitting, reading slowly or not at all, cancelling at random moments, asking for status and
// metrics. Every call must end, every promise to the engine hold, and the counts add up.
TEST_F(SchedulerTest, ManyClientsAtOnceLoseNothing) {
  constexpr int kThreads = 6, kRequests = 60;
  options_.max_batch = 3;
  options_.max_queue = 4;
  options_.mailbox_bytes = 8 * sizeof(Event);
  script_->capacity_tokens = 400;
  script_->decorate = [](const base::SequenceSpec& spec, uint32_t index, base::StepOutcome& outcome) {
    if (spec.prompt[0] == 'f' && index == 3) outcome.status = absl::InternalError("as arranged");
  };
  Start();
  std::atomic<int> finished = 0, cancelled = 0, failed = 0, refused = 0, late = 0;
  const auto client = [&](int number) {
    std::mt19937 random(number);
    for (int i = 0; i < kRequests; ++i) {
      GenerationRequest request;
      request.arrival = clock_.Now();
      const bool fails = random() % 10 == 0;
      request.input = std::string(1 + random() % 300, fails ? 'f' : 'x');
      request.max_new_tokens = 5 + random() % 30;
      request.generation_mode = base::kAllModes[random() % 3];
      request.memory_every_n_tokens = random() % 4;
      if (random() % 10 == 0) request.deadline = request.arrival + std::chrono::microseconds(random() % 2000);
      base::Violations violations;
      const auto mailbox = scheduler_->Submit(std::move(request), &violations);
      if (!mailbox.ok()) {
        EXPECT_EQ(mailbox.status().code(), absl::StatusCode::kResourceExhausted);
        ++refused;
        continue;
      }
      StreamReader stream;
      if (random() % 3 == 0) {
        for (uint32_t reads = random() % 20; reads > 0; --reads) {
          if (std::optional<Event> event = (*mailbox)->Pop()) stream.Take(*std::move(event));
        }
        if (!stream.ended()) (*mailbox)->Cancel();
      }
      if (!stream.ended()) ReadToTheEnd(**mailbox, stream);
      if (stream.finished) ++finished;
      if (!stream.status) continue;
      cancelled += absl::IsCancelled(*stream.status);
      failed += absl::IsInternal(*stream.status);
      late += absl::IsDeadlineExceeded(*stream.status);
      if (i % 16 == 0) {
        EXPECT_LE(scheduler_->status().running, 3u);
        EXPECT_FALSE(metrics_.Serialize().empty());
      }
    }
  };
  std::vector<std::thread> clients;
  for (int t = 0; t < kThreads; ++t) clients.emplace_back(client, t);
  for (std::thread& thread : clients) thread.join();
  EXPECT_GT(finished, 0);
  EXPECT_GT(cancelled, 0);
  EXPECT_GT(failed, 0);
  // Every stream tells its end, also one that was finished before its cancellation came.
  EXPECT_EQ(finished + cancelled + failed + refused + late, kThreads * kRequests);
  EXPECT_EQ(scheduler_->status().running, 0u);
  EXPECT_EQ(scheduler_->status().queued, 0u);
  EXPECT_EQ(scheduler_->status().kv_used_bytes, 0u);
}

}  // namespace
}  // namespace ebbinghaus::scheduler
