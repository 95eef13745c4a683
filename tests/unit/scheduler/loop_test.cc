#include "server/scheduler/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "server/base/retry.h"
#include "server/text/unicode.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_engine.h"
#include "tests/support/stream_reader.h"

namespace ebbinghaus::scheduler {
namespace {

using base::FinishReason;
using base::GenerationMode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using support::StreamReader;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Turns the loop by hand: no threads, and time moves only when a step says so.
class LoopTest : public ::testing::Test {
 protected:
  LoopTest() {
    ConfigureLog({LogFormat::kJson, LogLevel::kInfo, [this](std::string_view line) { log_.emplace_back(line); }});
    script_->on_step = [this](const std::vector<base::StepItem>&) { clock_.Advance(milliseconds(10)); };
  }
  ~LoopTest() override {
    Start();
    for (int i = 0; i < 2; ++i) loop_->RunOneStep(clock_.Now());  // ends what a test left
    EXPECT_EQ(script_->sequences(), 0u);
    engine_.reset();
    EXPECT_THAT(script_->broken_promises(), IsEmpty());
    ConfigureLog({});
  }

  // Before the first Submit; `options_` and `limits_` are read here.
  void Start() {
    if (loop_) return;
    engine_ = std::make_unique<support::FakeEngine>(script_);
    AdmissionOptions admission;
    admission.random = [this] { return ++random_; };
    admission_.emplace(admission, engine_->model(), text_);
    queue_.emplace(limits_, &metrics_);
    loop_.emplace(options_, engine_.get(), text_.get(), &*queue_, &metrics_, &clock_);
  }

  std::shared_ptr<Mailbox> Submit(GenerationRequest request) {
    Start();
    request.arrival = clock_.Now();
    base::Violations violations;
    auto admitted = admission_->Admit(std::move(request), violations);
    EXPECT_TRUE(admitted.has_value()) << violations.ToStatus();
    if (!admitted) return nullptr;
    auto mailbox = std::make_shared<Mailbox>(mailbox_bytes_, &clock_);
    const auto refusal =
        queue_->Push(std::make_unique<QueuedRequest>(QueuedRequest{*std::move(admitted), mailbox, clock_.Now()}));
    EXPECT_FALSE(refusal.has_value()) << refusal->status;
    return mailbox;
  }

  static GenerationRequest Ask(std::string text, std::optional<uint32_t> max_new_tokens = std::nullopt) {
    GenerationRequest request;
    request.input = std::move(text);
    request.max_new_tokens = max_new_tokens;
    return request;
  }

  static GenerationRequest AskForTokenWeights(std::string text) {
    GenerationRequest request = Ask(std::move(text), 2);
    request.generation_mode = GenerationMode::kSoftDelete;
    request.return_token_weights = true;
    return request;
  }

  // Steps as far as it goes while nobody reads; there are more token weights than the mailbox holds.
  std::shared_ptr<Mailbox> GenerateUnreadTokenWeights() {
    mailbox_bytes_ = 8 * 1024;
    auto mailbox = Submit(AskForTokenWeights(std::string(900, 'p')));
    while (Step().stepped) {
    }
    return mailbox;
  }

  Loop::Progress Step(std::optional<base::TimePoint> drain = std::nullopt) { return loop_->RunOneStep(drain); }
  void RunUntilIdle() {
    for (int i = 0; i < 10'000; ++i) {
      if (Step().idle) return;
    }
    ADD_FAILURE() << "never idle";
  }
  StreamReader Run(GenerationRequest request) {
    const auto mailbox = Submit(std::move(request));
    RunUntilIdle();
    return StreamReader().ReadAll(*mailbox);
  }
  void SayTokens(std::vector<base::TokenId> tokens) {  // then EOS for ever
    script_->token = [tokens](const base::SequenceSpec&, uint32_t i) {
      return i < tokens.size() ? tokens[i] : support::kEosToken;
    };
  }
  void Say(const std::string& text) {
    std::vector<base::TokenId> tokens;
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    SayTokens(tokens);
  }
  bool Shows(const std::string& sample) { return metrics_.Serialize().find("\n" + sample + "\n") != std::string::npos; }

  support::FakeClock clock_;
  metrics::Metrics metrics_{&clock_};
  std::shared_ptr<support::EngineScript> script_ = std::make_shared<support::EngineScript>();
  std::shared_ptr<const text::TextModel> text_ = support::ByteTextModel();
  LoopOptions options_{.max_batch = 4, .step = {.least_tokens = 16, .most_tokens = 16}};
  QueueLimits limits_{4, 8, 100'000};
  size_t mailbox_bytes_ = 1 << 20;
  std::vector<std::string> log_;
  uint64_t random_ = 0;
  std::unique_ptr<support::FakeEngine> engine_;
  std::optional<Admission> admission_;
  std::optional<WaitingQueue> queue_;
  std::optional<Loop> loop_;
};

// --- one stream ---

TEST_F(LoopTest, AStreamIsStartedThenTokensThenFinished) {
  const StreamReader stream = Run(Ask("hello", 5));
  EXPECT_EQ(stream.order, "StttttF");
  EXPECT_EQ(stream.text(), "abcde");
  EXPECT_EQ(stream.started->model, "fake");
  EXPECT_THAT(stream.started->spec->prompt, ElementsAre('h', 'e', 'l', 'l', 'o'));
  EXPECT_EQ(stream.finished->reason, FinishReason::kLength);
  EXPECT_EQ(stream.finished->prompt_tokens, 5u);
  EXPECT_EQ(stream.finished->memory.total_tokens, 9u);  // the last token is not fed back
  EXPECT_EQ(stream.tokens[2].raw, "c");
}

TEST_F(LoopTest, EosEndsWithAnEventOfItsOwnAndWithoutText) {
  Say("hi");
  const StreamReader stream = Run(Ask("x"));
  EXPECT_EQ(stream.order, "StttF");
  EXPECT_EQ(stream.tokens[2].token.id, support::kEosToken);
  EXPECT_EQ(stream.tokens[2].text, "");
  EXPECT_EQ(stream.tokens[2].raw, "<eos>");
  EXPECT_EQ(stream.text(), "hi");
  EXPECT_EQ(stream.finished->reason, FinishReason::kEos);
}

TEST_F(LoopTest, IgnoredEosIsATokenLikeAnyOther) {
  Say("hi");
  GenerationRequest request = Ask("x", 6);
  request.ignore_eos = true;
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.finished->reason, FinishReason::kLength);
  EXPECT_EQ(stream.tokens.size(), 6u);
  EXPECT_EQ(stream.text(), "hi");
}

TEST_F(LoopTest, AStopTokenEndsAsStopWithoutAMatchedString) {
  GenerationRequest request = Ask("x");
  request.stop_token_ids = {'d'};
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.finished->reason, FinishReason::kStop);
  EXPECT_EQ(stream.finished->matched_stop, "");
  EXPECT_EQ(stream.tokens.size(), 4u);
}

TEST_F(LoopTest, AStopStringIsCutOutAcrossTokensAndEndsTheStream) {
  Say("one two three");
  GenerationRequest request = Ask("x");
  request.stop = {"zzz", "o th"};
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.text(), "one tw");
  EXPECT_EQ(stream.finished->reason, FinishReason::kStop);
  EXPECT_EQ(stream.finished->matched_stop, "o th");
  EXPECT_EQ(stream.tokens.size(), 10u);  // also those whose text was cut
}

TEST_F(LoopTest, AStopStringInTheMiddleOfATokenCutsItsText) {
  SayTokens({'a', support::kLongToken});  // "wonderful"
  GenerationRequest request = Ask("x");
  request.stop = {"der"};
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.text(), "awon");
  EXPECT_EQ(stream.tokens.back().raw, "wonderful");
  EXPECT_EQ(stream.finished->reason, FinishReason::kStop);
}

TEST_F(LoopTest, AStopStringWinsOverTheLengthItEndsWith) {
  GenerationRequest request = Ask("x", 3);
  request.stop = {"bc"};
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.finished->reason, FinishReason::kStop);
  EXPECT_EQ(stream.text(), "a");
}

TEST_F(LoopTest, TextHeldBackForAStopStringComesWithTheLastToken) {
  GenerationRequest request = Ask("x", 4);
  request.stop = {"cde"};
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.tokens[2].text, "");
  EXPECT_EQ(stream.tokens[3].text, "cd");
  EXPECT_EQ(stream.text(), "abcd");
  EXPECT_EQ(stream.finished->reason, FinishReason::kLength);
}

TEST_F(LoopTest, BeforeMinNewTokensStopStringsAreNotLookedAt) {
  Say("xx--yy--zz");
  GenerationRequest request = Ask("x");
  request.stop = {"--"};
  request.min_new_tokens = 5;
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.text(), "xx--yy");
  EXPECT_EQ(stream.finished->reason, FinishReason::kStop);
}

TEST_F(LoopTest, HalfACodePointIsNeverSentAndABrokenOneIsReplacedAtTheEnd) {
  Say("a\xe2\x82\xac\xe2\x82");  // euro sign, then two thirds of one
  const StreamReader stream = Run(Ask("x", 6));
  for (const TokenEvent& event : stream.tokens) EXPECT_TRUE(text::IsValidUtf8(event.text));
  EXPECT_EQ(stream.tokens[1].text + stream.tokens[2].text, "");
  EXPECT_EQ(stream.tokens[3].text, "\xe2\x82\xac");
  EXPECT_EQ(stream.tokens[5].text, "\xef\xbf\xbd");
  EXPECT_EQ(stream.tokens[1].raw, "\xe2");
}

TEST_F(LoopTest, TokensBeyondTheTokenizerHaveNoText) {
  SayTokens({'a', 70'000, 'b'});
  const StreamReader stream = Run(Ask("x"));
  EXPECT_EQ(stream.text(), "ab");
  EXPECT_EQ(stream.tokens[1].raw, "");
}

TEST_F(LoopTest, SnapshotsComeAfterEveryNthTokenAndForgetEventsBeforeTheirToken) {
  script_->decorate = [](const base::SequenceSpec&, uint32_t index, base::StepOutcome& outcome) {
    if (index != 3) return;
    base::ForgetEvent event;
    event.step = index;
    event.position = 1;
    event.age_ticks = 40;
    outcome.forgotten = {event};
    outcome.token->live_tokens -= 1;
  };
  GenerationRequest request = Ask("hello", 6);
  request.generation_mode = GenerationMode::kSparseAttention;
  request.memory_every_n_tokens = 2;
  request.return_forget_events = true;
  const StreamReader stream = Run(request);
  EXPECT_EQ(stream.order, "SttmtmtmttmF");
  EXPECT_EQ(stream.memory[0].step, 1u);
  EXPECT_EQ(stream.memory[0].snapshot->total_tokens, 6u);  // five of the prompt, one fed back
  EXPECT_EQ(stream.memory[1].step, 3u);
  EXPECT_EQ(stream.memory[1].forgotten.size(), 1u);
  EXPECT_FALSE(stream.memory[1].snapshot.has_value());
  EXPECT_EQ(stream.memory[3].step, 5u);
  EXPECT_TRUE(Shows("ebbinghaus_token_age_at_forgetting_tokens_sum 40"));
  EXPECT_TRUE(Shows("ebbinghaus_forgotten_tokens_total{mode=\"sparse_attention\"} 1"));
}

TEST_F(LoopTest, ForgetEventsAreNotSentUnlessAskedFor) {
  script_->decorate = [](const base::SequenceSpec&, uint32_t, base::StepOutcome& outcome) {
    outcome.forgotten.resize(1);
  };
  EXPECT_EQ(Run(Ask("hello", 3)).order, "StttF");
}

TEST_F(LoopTest, TokenWeightsComeLayerByLayerBeforeFinished) {
  const StreamReader stream = Run(AskForTokenWeights("hello"));
  EXPECT_EQ(stream.order, "SttmmmmF");
  for (uint32_t l = 0; l < 4; ++l) {
    ASSERT_EQ(stream.memory[l].token_weights.size(), 1u);
    EXPECT_EQ(stream.memory[l].token_weights[0].layer, l);
    EXPECT_EQ(stream.memory[l].step, 1u);
  }
}

TEST_F(LoopTest, UsageTellsQueuePrefillAndDecodeApart) {
  options_.max_batch = 1;
  options_.step.least_tokens = options_.step.most_tokens = 4;
  const auto first = Submit(Ask("x", 3));  // 3 steps
  const auto second = Submit(Ask("0123456789", 5));
  RunUntilIdle();
  const StreamReader stream = StreamReader().ReadAll(*second);
  EXPECT_EQ(stream.finished->queue, milliseconds(30));
  EXPECT_EQ(stream.finished->prefill, milliseconds(30));  // 4 + 4 + 2 tokens
  EXPECT_EQ(stream.finished->decode, milliseconds(40));
  EXPECT_DOUBLE_EQ(stream.finished->tokens_per_second, 100);
}

TEST_F(LoopTest, OneTokenHasNoDecodeTimeAndNoRate) {
  const StreamReader stream = Run(Ask("x", 1));
  EXPECT_EQ(stream.finished->decode, base::Duration::zero());
  EXPECT_EQ(stream.finished->tokens_per_second, 0);
}

// --- several streams ---

TEST_F(LoopTest, EveryStepServesAllWhoDecodeAndOneChunkOfWhoReads) {
  const auto a = Submit(Ask("a", 50)), b = Submit(Ask("b", 50));
  Step();
  Step();
  Step();
  const auto c = Submit(Ask(std::string(100, 'x'), 5));
  const size_t before = script_->steps().size();
  for (int i = 0; i < 3; ++i) Step();
  const auto steps = script_->steps();
  for (size_t i = before; i < steps.size(); ++i) {
    ASSERT_EQ(steps[i].size(), 3u);
    EXPECT_EQ(steps[i][0].prompt_tokens, 0u);
    EXPECT_EQ(steps[i][1].prompt_tokens, 0u);
    EXPECT_EQ(steps[i][2].prompt_tokens, 16u);
  }
}

TEST_F(LoopTest, AtMostABatchRunsAndTheOthersWaitInOrder) {
  options_.max_batch = 2;
  std::vector<std::shared_ptr<Mailbox>> mailboxes;
  for (int i = 0; i < 5; ++i) mailboxes.push_back(Submit(Ask("x", 3 + i)));
  std::string finished;
  std::vector<StreamReader> streams(5);
  for (int i = 0; i < 40; ++i) {
    Step();
    EXPECT_LE(loop_->running_requests(), 2u);
    for (int s = 0; s < 5; ++s) {
      const bool ended = streams[s].ended();
      streams[s].ReadAll(*mailboxes[s]);
      if (!ended && streams[s].ended()) finished += std::to_string(s);
    }
  }
  EXPECT_EQ(finished, "01234");
}

TEST_F(LoopTest, ALongPromptDoesNotKeepAShortOneWaiting) {
  const auto longer = Submit(Ask(std::string(900, 'x'), 5));
  const auto shorter = Submit(Ask("hi", 5));
  StreamReader stream;
  int steps = 0;
  while (!stream.ended() && ++steps < 100) {
    Step();
    stream.ReadAll(*shorter);
  }
  EXPECT_LE(steps, 2 + 5);
  RunUntilIdle();
  EXPECT_EQ(StreamReader().ReadAll(*longer).finished->generated_tokens, 5u);
}

TEST_F(LoopTest, AFullMailboxPausesOnlyItsOwnSequence) {
  mailbox_bytes_ = 5 * sizeof(Event);
  const auto slow = Submit(Ask("x", 50));
  mailbox_bytes_ = 1 << 20;
  const auto quick = Submit(Ask("y", 50));
  for (int i = 0; i < 80; ++i) Step();
  EXPECT_EQ(StreamReader().ReadAll(*quick).tokens.size(), 50u);
  EXPECT_TRUE(slow->full());
  EXPECT_FALSE(Step().stepped);
  EXPECT_FALSE(Step().idle);
  EXPECT_EQ(script_->sequences(), 1u) << "it keeps its memory";
  EXPECT_TRUE(Shows("ebbinghaus_stream_backpressure_total{action=\"paused\"} 1"));
  StreamReader stream;
  for (int i = 0; i < 80 && !stream.ended(); ++i) {
    stream.ReadAll(*slow);
    Step();
  }
  EXPECT_EQ(stream.tokens.size(), 50u);
}

TEST_F(LoopTest, AReaderWhoDoesNotReadForTooLongIsHungUpOn) {
  options_.slow_reader_timeout = seconds(2);
  mailbox_bytes_ = 5 * sizeof(Event);
  const auto slow = Submit(Ask("x", 50));
  mailbox_bytes_ = 1 << 20;
  const auto quick = Submit(Ask("y", 50));
  int hung_up = 0;
  slow->SetHangUp([&] { ++hung_up; });
  quick->SetHangUp([] { ADD_FAILURE() << "the wrong one"; });
  while (Step().stepped) {
  }
  const Loop::Progress asleep = Step();
  ASSERT_TRUE(asleep.wake_at.has_value());
  EXPECT_LE(*asleep.wake_at, clock_.Now() + seconds(2));
  EXPECT_EQ(hung_up, 0);
  clock_.Advance(*asleep.wake_at - clock_.Now());
  EXPECT_TRUE(Step().idle);
  EXPECT_EQ(hung_up, 1);
  EXPECT_EQ(script_->sequences(), 0u);
  const StreamReader stream = StreamReader().ReadAll(*slow);
  EXPECT_EQ(stream.order, "X") << "what nobody read is gone";
  EXPECT_EQ(stream.status->code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(std::string(stream.status->message()), HasSubstr("slow-reader-timeout"));
  EXPECT_TRUE(Shows("ebbinghaus_stream_backpressure_total{action=\"cancelled\"} 1"));
  EXPECT_THAT(log_.back(), HasSubstr("slow-reader-timeout"));
  EXPECT_EQ(StreamReader().ReadAll(*quick).tokens.size(), 50u);
}

TEST_F(LoopTest, AReaderWhoReadsNowAndThenIsNotHungUpOn) {
  options_.slow_reader_timeout = seconds(2);
  mailbox_bytes_ = 3 * sizeof(Event);
  const auto slow = Submit(Ask("x", 20));
  StreamReader stream;
  for (int i = 0; i < 100 && !stream.ended(); ++i) {
    while (Step().stepped) {
    }
    clock_.Advance(seconds(1));
    if (i % 2 == 0) continue;
    if (auto event = slow->Pop()) stream.Take(*std::move(event));
  }
  EXPECT_EQ(stream.tokens.size(), 20u);
  EXPECT_TRUE(stream.finished.has_value());
}

// The reader takes one message in 29 s, and so is never silent for the timeout's 30.
class OneMessageIn29Seconds : public LoopTest {
 protected:
  // How long the slow stream lasts while its reader does that, at most `most`.
  base::Duration Lasts(const std::shared_ptr<Mailbox>& slow, base::Duration most) {
    const base::TimePoint began = clock_.Now();
    StreamReader stream;
    while (!stream.ended() && clock_.Now() - began < most) {
      while (Step().stepped) {
      }
      const base::TimePoint now = clock_.Now();
      for (auto wake = Step().wake_at; wake && *wake < now + seconds(29); wake = Step().wake_at) {
        clock_.Advance(std::max<base::Duration>(*wake - clock_.Now(), milliseconds(1)));
      }
      clock_.Advance(std::max<base::Duration>(now + seconds(29) - clock_.Now(), base::Duration::zero()));
      if (auto event = slow->Pop()) stream.Take(*std::move(event));
    }
    if (stream.status) status_ = *stream.status;
    return clock_.Now() - began;
  }
  std::shared_ptr<Mailbox> SubmitSlow() {
    mailbox_bytes_ = 3 * sizeof(Event);
    const auto slow = Submit(Ask("x", 400));
    mailbox_bytes_ = 1 << 20;
    return slow;
  }

  absl::Status status_;
};

TEST_F(OneMessageIn29Seconds, GoesOnWhileNobodyElseWaits) {
  EXPECT_GE(Lasts(SubmitSlow(), seconds(3000)), seconds(3000));
}

TEST_F(OneMessageIn29Seconds, EndsSoonWhenSomebodyWaitsForItsSlot) {
  options_.max_batch = 1;
  const auto slow = SubmitSlow();
  Step();
  const auto waits = Submit(Ask("y", 5));
  EXPECT_LE(Lasts(slow, seconds(3000)), seconds(60));
  EXPECT_EQ(status_.code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(std::string(status_.message()), HasSubstr("slow-reader-timeout"));
  EXPECT_TRUE(Shows("ebbinghaus_stream_backpressure_total{action=\"cancelled\"} 1"));
  RunUntilIdle();
  EXPECT_TRUE(StreamReader().ReadAll(*waits).finished.has_value());
}

TEST_F(OneMessageIn29Seconds, EndsSoonWhenSomebodyWaitsForItsMemory) {
  script_->capacity_tokens = 500;
  const auto slow = SubmitSlow();
  Step();
  const auto waits = Submit(Ask("y", 300));
  EXPECT_LE(Lasts(slow, seconds(3000)), seconds(60));
  RunUntilIdle();
  EXPECT_TRUE(StreamReader().ReadAll(*waits).finished.has_value());
}

TEST_F(LoopTest, OfManyLaggardsOnlyAsManyEndAsOthersNeed) {
  mailbox_bytes_ = 3 * sizeof(Event);
  std::vector<std::shared_ptr<Mailbox>> slow;
  for (int i = 0; i < 4; ++i) slow.push_back(Submit(Ask("x", 50)));
  while (Step().stepped) {
  }
  for (int i = 0; i < 3; ++i) {  // each reads a little, so that none is silent for the timeout
    clock_.Advance(seconds(20));
    for (const auto& mailbox : slow) mailbox->Pop();
    while (Step().stepped) {
    }
  }
  mailbox_bytes_ = 1 << 20;
  const auto waits = Submit(Ask("y", 5));
  for (int i = 0; i < 20; ++i) Step();
  EXPECT_TRUE(StreamReader().ReadAll(*waits).finished.has_value());
  EXPECT_EQ(script_->sequences(), 3u);
}

TEST_F(LoopTest, AStreamThatEndedAndIsNotReadEndsAfterTheTimeoutAndFreesItsEvents) {
  const auto stuck = Submit(Ask("x", 50));
  int hung_up = 0;
  stuck->SetHangUp([&] { ++hung_up; });
  RunUntilIdle();
  EXPECT_EQ(script_->sequences(), 0u);
  EXPECT_GT(stuck->bytes(), 50 * sizeof(Event));
  const Loop::Progress idle = Step();
  ASSERT_TRUE(idle.wake_at.has_value());
  EXPECT_LE(*idle.wake_at, clock_.Now() + options_.slow_reader_timeout);
  clock_.Advance(options_.slow_reader_timeout);
  EXPECT_FALSE(Step().wake_at.has_value());
  EXPECT_EQ(hung_up, 1);
  EXPECT_LT(stuck->bytes(), 2 * sizeof(Event));
  EXPECT_EQ(StreamReader().ReadAll(*stuck).status->code(), absl::StatusCode::kCancelled);
}

// Its last event has been handed to a write that never completes.
TEST_F(LoopTest, AStreamWhoseLastWriteIsStuckEndsAfterTheTimeoutToo) {
  const auto stuck = Submit(Ask("x", 5));
  int hung_up = 0;
  stuck->SetHangUp([&] { ++hung_up; });
  RunUntilIdle();
  EXPECT_TRUE(StreamReader().ReadAll(*stuck).finished.has_value());
  Step();
  clock_.Advance(options_.slow_reader_timeout);
  Step();
  EXPECT_EQ(hung_up, 1);
}

TEST_F(LoopTest, AStreamThatWasReadToItsEndIsLeftAlone) {
  const auto read = Submit(Ask("x", 5));
  read->SetHangUp([] { ADD_FAILURE() << "it is over"; });
  RunUntilIdle();
  EXPECT_TRUE(StreamReader().ReadAll(*read).finished.has_value());
  read->SetHangUp(nullptr);
  EXPECT_FALSE(Step().wake_at.has_value());
  clock_.Advance(10 * options_.slow_reader_timeout);
  Step();
  EXPECT_TRUE(Shows("ebbinghaus_stream_backpressure_total{action=\"cancelled\"} 0"));
}

TEST_F(LoopTest, AStreamThatEndedIsReadInBoundedTimeHoweverSlowly) {
  const auto slow = Submit(Ask("x", 300));
  int hung_up = 0;
  slow->SetHangUp([&] { ++hung_up; });
  RunUntilIdle();
  const base::TimePoint ended = clock_.Now();
  for (int i = 0; i < 100 && hung_up == 0; ++i) {
    clock_.Advance(options_.slow_reader_timeout / 2);
    slow->Pop();
    Step();
  }
  EXPECT_EQ(hung_up, 1);
  EXPECT_LE(clock_.Now() - ended, kUnreadTimeouts * options_.slow_reader_timeout);
}

TEST_F(LoopTest, WhatEndedStreamsKeepIsBoundedAndTheOneWithMostLosesIt) {
  limits_ = {4, 10'000, 1'000'000};
  options_.slow_reader_timeout = std::chrono::hours(10);
  int hung_up = 0;
  std::vector<std::shared_ptr<Mailbox>> many;
  GenerationRequest other = Ask("y", 5);
  other.peer = "ipv4:10.0.0.1:1";
  const auto honest = Submit(std::move(other));
  honest->SetHangUp([] { ADD_FAILURE() << "it is not the one with most"; });
  for (int i = 0; i < 1000; ++i) {
    many.push_back(Submit(Ask("x", 20)));
    many.back()->SetHangUp([&] { ++hung_up; });
    while (Step().stepped) {
    }
  }
  size_t kept = 0;
  for (const auto& mailbox : many) kept += mailbox->cancelled() ? 0 : mailbox->bytes() + kUnreadStreamBytes;
  EXPECT_LE(kept, kMaxUnreadBytes);
  EXPECT_GE(hung_up, 400);
  EXPECT_TRUE(many.front()->cancelled());
  EXPECT_FALSE(many.back()->cancelled());
}

TEST_F(LoopTest, TokenWeightsWaitForTheReaderAndNotInItsMailbox) {
  const auto mailbox = GenerateUnreadTokenWeights();
  EXPECT_LE(mailbox->bytes(), mailbox_bytes_ + 901 * 20 + 1024) << "the capacity and a piece";
  EXPECT_EQ(script_->sequences(), 1u);
  StreamReader stream;
  for (int i = 0; i < 10 && !stream.ended(); ++i) {
    stream.ReadAll(*mailbox);
    Step();
  }
  EXPECT_EQ(stream.order, "SttmmmmF");
  EXPECT_EQ(stream.memory[3].token_weights[0].positions.size(), 901u);
  EXPECT_EQ(script_->sequences(), 0u);
}

TEST_F(LoopTest, WhoDoesNotTakeItsTokenWeightsEndsAfterTheTimeout) {
  const auto mailbox = GenerateUnreadTokenWeights();
  const Loop::Progress asleep = Step();
  ASSERT_TRUE(asleep.wake_at.has_value());
  clock_.Advance(*asleep.wake_at - clock_.Now());
  EXPECT_TRUE(Step().idle);
  EXPECT_EQ(StreamReader().ReadAll(*mailbox).status->code(), absl::StatusCode::kCancelled);
}

TEST_F(LoopTest, ADrainWithoutTimeTellsTheTokenWeightsAllTheSame) {
  const auto mailbox = GenerateUnreadTokenWeights();
  EXPECT_TRUE(Step(clock_.Now()).idle);
  EXPECT_EQ(StreamReader().ReadAll(*mailbox).order, "SttmmmmF");
}

// A report takes as long as the step's other work; both streams want as many tokens as they can get.
TEST_F(LoopTest, WhoAsksForReportsWaitsForThemAndNotTheOthers) {
  script_->decorate = [this](const base::SequenceSpec& spec, uint32_t, base::StepOutcome& outcome) {
    if (!spec.attention) return;
    outcome.report_time = milliseconds(10);
    clock_.Advance(milliseconds(10));
  };
  GenerationRequest asks = Ask("x", 900);
  asks.return_attention_weights = true;
  const auto reported = Submit(std::move(asks)), plain = Submit(Ask("y", 900));
  StreamReader reports, tokens;
  for (int i = 0; i < 100; ++i) Step();
  EXPECT_GE(tokens.ReadAll(*plain).tokens.size(), 95u);
  EXPECT_NEAR(static_cast<double>(reports.ReadAll(*reported).tokens.size()), 20.0, 4.0);
  plain->Cancel();
  for (int i = 0; i < 100; ++i) Step();
  EXPECT_GE(reports.ReadAll(*reported).tokens.size(), 110u) << "alone it waits for nobody";
  reported->Cancel();
}

TEST_F(LoopTest, WhoFindsNoKvMemoryWaitsUntilAnotherLeaves) {
  script_->capacity_tokens = 100;
  const auto a = Submit(Ask("x", 60)), b = Submit(Ask("y", 60)), c = Submit(Ask("z", 10));
  Step();
  EXPECT_EQ(script_->sequences(), 2u) << "c needs less than b";
  EXPECT_FALSE(StreamReader().ReadAll(*b).started.has_value());
  RunUntilIdle();
  for (const auto& mailbox : {a, b, c}) {
    EXPECT_EQ(StreamReader().ReadAll(*mailbox).finished->reason, FinishReason::kLength);
  }
}

TEST_F(LoopTest, WhoCanNeverGetKvMemoryIsRefusedAtOnceWhoeverRuns) {
  script_->capacity_tokens = 100;
  const auto b = Submit(Ask("y", 50));
  Step();
  const auto a = Submit(Ask("x", 500));
  Step();
  EXPECT_EQ(script_->sequences(), 1u);
  const StreamReader refused = StreamReader().ReadAll(*a);
  EXPECT_EQ(refused.order, "X");
  ASSERT_TRUE(refused.status.has_value());
  EXPECT_EQ(refused.status->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(base::RetryDelay(*refused.status).has_value());
  RunUntilIdle();
  EXPECT_EQ(StreamReader().ReadAll(*b).finished->reason, FinishReason::kLength);
  EXPECT_TRUE(Shows("ebbinghaus_requests_rejected_total{reason=\"kv_memory\"} 1"));
}

TEST_F(LoopTest, WhoWaitsForKvMemoryIsPassedByAtMostSixteenThatNeedLess) {
  limits_ = {4, 60, 100'000};
  script_->capacity_tokens = 100;
  const auto runs = Submit(Ask("x", 40));
  const auto large = Submit(Ask("y", 90));
  std::vector<std::shared_ptr<Mailbox>> small;
  for (int i = 0; i < 40; ++i) small.push_back(Submit(Ask("z", 10 + i % 3)));
  int before_large = 0;
  StreamReader stream;
  std::vector<StreamReader> streams(small.size());
  for (int i = 0; i < 2000 && !stream.started; ++i) {
    Step();
    stream.ReadAll(*large);
  }
  for (size_t i = 0; i < small.size(); ++i) before_large += streams[i].ReadAll(*small[i]).started.has_value();
  EXPECT_TRUE(stream.started.has_value());
  EXPECT_EQ(before_large, 16);
  RunUntilIdle();
  for (size_t i = 0; i < small.size(); ++i) EXPECT_TRUE(streams[i].ReadAll(*small[i]).finished.has_value());
  EXPECT_TRUE(stream.ReadAll(*large).finished.has_value());
}

// Small requests come without end, one by one, each from a new client, and some leave before they are done.
TEST_F(LoopTest, ARequestThatNeedsMostOfTheMemoryStartsAfterAtMostSixteenOvertakes) {
  limits_ = {4, 60, 100'000};
  script_->capacity_tokens = 100;
  const auto runs = Submit(Ask("x", 60));
  Step();
  const auto large = Submit(Ask("y", 98));
  Step();
  StreamReader stream;
  int small_starts = 0;
  std::vector<std::shared_ptr<Mailbox>> small;
  for (int i = 0; i < 400 && !stream.ReadAll(*large).started; ++i) {
    GenerationRequest request = Ask("z", 3 + i % 5);
    request.peer = "ipv4:10.0.0." + std::to_string(i) + ":1";
    small.push_back(Submit(std::move(request)));
    if (i % 7 == 0 && i >= 7) small[i - 1]->Cancel();
    Step();
  }
  ASSERT_TRUE(stream.started.has_value());
  for (const auto& mailbox : small) small_starts += StreamReader().ReadAll(*mailbox).started.has_value();
  EXPECT_EQ(small_starts, 16);
}

TEST_F(LoopTest, WhenWhoMemoryIsKeptForGivesUpTheOthersStart) {
  limits_ = {4, 60, 100'000};
  script_->capacity_tokens = 100;
  const auto runs = Submit(Ask("x", 80));
  const auto large = Submit(Ask("y", 90));
  std::vector<std::shared_ptr<Mailbox>> small;
  for (int i = 0; i < 17; ++i) small.push_back(Submit(Ask("z", 1)));
  for (int i = 0; i < 30; ++i) Step();
  EXPECT_FALSE(StreamReader().ReadAll(*small.back()).started.has_value());
  large->Cancel();
  Step();
  EXPECT_TRUE(StreamReader().ReadAll(*small.back()).started.has_value());
}

TEST_F(LoopTest, WhoLosesItsPlaceToAnotherClientIsToldWhenToComeAgain) {
  options_.max_batch = 1;
  limits_ = {1, 2, 100};
  std::vector<std::shared_ptr<Mailbox>> mine;
  for (int i = 0; i < 3; ++i) mine.push_back(Submit(Ask("x", 5)));
  Step();
  GenerationRequest other = Ask("y", 5);
  other.peer = "ipv4:10.0.0.1:1";
  const auto others = Submit(std::move(other));
  Step();
  const StreamReader refused = StreamReader().ReadAll(*mine[2]);
  ASSERT_TRUE(refused.status.has_value());
  EXPECT_EQ(refused.status->code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(base::RetryDelay(*refused.status).has_value());
  EXPECT_TRUE(Shows("ebbinghaus_requests_rejected_total{reason=\"queue_full\"} 1"));
  RunUntilIdle();
  for (const auto& served : {mine[0], mine[1], others}) EXPECT_TRUE(StreamReader().ReadAll(*served).finished.has_value());
}

TEST_F(LoopTest, ClientsTakeTurns) {
  options_.max_batch = 1;
  const auto ask = [](const std::string& peer) {
    GenerationRequest request = Ask("x", 3);
    request.peer = peer;
    return request;
  };
  std::vector<std::shared_ptr<Mailbox>> mine;
  for (int i = 0; i < 5; ++i) mine.push_back(Submit(ask("ipv4:1.2.3.4:5")));
  Step();
  const auto other = Submit(ask("ipv4:1.2.3.4:6"));
  StreamReader first, second, others;
  while (!first.ReadAll(*mine[0]).ended()) Step();
  Step();
  EXPECT_TRUE(others.ReadAll(*other).started.has_value());
  EXPECT_FALSE(second.ReadAll(*mine[1]).started.has_value());
}

TEST_F(LoopTest, WhileATurnRunsItCanBeSeenHowLong) {
  base::Duration seen{};
  script_->on_step = [&](const std::vector<base::StepItem>&) {
    clock_.Advance(seconds(7));
    seen = loop_->busy();
  };
  Submit(Ask("x", 1));
  Step();
  EXPECT_EQ(seen, seconds(7));
  EXPECT_EQ(loop_->busy(), base::Duration::zero());
}

TEST_F(LoopTest, CancellingWhoWaitsForKvMemoryLetsTheNextOneStart) {
  script_->capacity_tokens = 100;
  const auto a = Submit(Ask("x", 80)), b = Submit(Ask("y", 60)), c = Submit(Ask("z", 10));
  Step();
  b->Cancel();
  Step();
  EXPECT_EQ(script_->sequences(), 2u);
}

// --- the ways a request is interrupted ---

TEST_F(LoopTest, ACancelledRequestIsGoneByTheNextStepWhileItDecodes) {
  const auto a = Submit(Ask("x", 50)), b = Submit(Ask("y", 50));
  Step();
  Step();
  Step();
  a->Cancel();
  clock_.Advance(milliseconds(250));
  Step();
  EXPECT_EQ(script_->sequences(), 1u);
  EXPECT_EQ(script_->steps().back().size(), 1u);
  EXPECT_EQ(StreamReader().ReadAll(*a).status->code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(Shows("ebbinghaus_requests_total{code=\"CANCELLED\",mode=\"baseline\"} 1"));
  EXPECT_TRUE(Shows("ebbinghaus_cancel_latency_seconds_sum 0.25"));
}

TEST_F(LoopTest, ACancelledRequestIsGoneByTheNextStepWhileItReadsItsPrompt) {
  const auto a = Submit(Ask(std::string(500, 'x')));
  Step();
  a->Cancel();
  EXPECT_TRUE(Step().idle);
  EXPECT_EQ(script_->sequences(), 0u);
  EXPECT_EQ(script_->steps().size(), 1u);
}

TEST_F(LoopTest, ACancelledRequestNeverStartsIfItWaits) {
  options_.max_batch = 1;
  const auto a = Submit(Ask("x", 50)), b = Submit(Ask("y", 50));
  Step();
  b->Cancel();
  Step();
  EXPECT_EQ(queue_->waiting().requests, 0u);
  EXPECT_EQ(StreamReader().ReadAll(*b).order, "X");
}

TEST_F(LoopTest, ACancelledRequestIsGoneEvenWhilePaused) {
  mailbox_bytes_ = 1;
  const auto a = Submit(Ask("x", 50));
  Step();
  EXPECT_FALSE(Step().stepped);
  a->Cancel();
  EXPECT_TRUE(Step().idle);
}

TEST_F(LoopTest, ADeadlineEndsWhoRuns) {
  GenerationRequest request = Ask("x", 50);
  Start();
  request.deadline = clock_.Now() + milliseconds(35);
  const auto a = Submit(request);
  RunUntilIdle();
  const StreamReader stream = StreamReader().ReadAll(*a);
  EXPECT_EQ(stream.order, "SttttX");
  EXPECT_EQ(stream.status->code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(LoopTest, ADeadlineThatPassedInTheQueueMeansNoWorkIsStarted) {
  options_.max_batch = 1;
  const auto a = Submit(Ask("x", 8));
  GenerationRequest request = Ask("y", 50);
  request.deadline = clock_.Now() + milliseconds(35);
  const auto b = Submit(request);
  RunUntilIdle();
  const StreamReader stream = StreamReader().ReadAll(*b);
  EXPECT_EQ(stream.order, "X");
  EXPECT_EQ(stream.status->code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(StreamReader().ReadAll(*a).tokens.size(), 8u);
}

TEST_F(LoopTest, WhileNobodyCanRunItAsksToBeWokenForTheNextDeadline) {
  mailbox_bytes_ = 1;
  options_.max_batch = 1;
  Start();
  GenerationRequest a = Ask("x", 50), b = Ask("y", 50);
  a.deadline = clock_.Now() + seconds(5);
  b.deadline = clock_.Now() + seconds(3);
  const base::TimePoint drain = clock_.Now() + seconds(4);
  const auto mailboxes = {Submit(a), Submit(b)};
  Step();
  EXPECT_EQ(Step().wake_at, b.deadline);
  EXPECT_EQ(Step(clock_.Now() + seconds(2)).wake_at, clock_.Now() + seconds(2));
  clock_.Advance(seconds(3));
  EXPECT_EQ(Step(drain).wake_at, drain);
  EXPECT_EQ(Step().wake_at, a.deadline);
}

TEST_F(LoopTest, AFailingSequenceEndsAloneAndItsErrorIsInternal) {
  script_->decorate = [](const base::SequenceSpec& spec, uint32_t index, base::StepOutcome& outcome) {
    if (spec.prompt[0] == 'x' && index == 2) outcome.status = absl::InvalidArgumentError("no finite logit");
  };
  const auto a = Submit(Ask("x", 6)), b = Submit(Ask("y", 6));
  RunUntilIdle();
  const StreamReader bad = StreamReader().ReadAll(*a);
  EXPECT_EQ(bad.order, "SttX");
  EXPECT_EQ(bad.status->code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(bad.status->message()), HasSubstr("no finite logit"));
  EXPECT_EQ(StreamReader().ReadAll(*b).tokens.size(), 6u);
  EXPECT_EQ(script_->sequences(), 0u);
}

TEST_F(LoopTest, AnEngineThatThrowsLosesTheSequencesOfThatStepAndServesOn) {
  bool thrown = false;
  script_->on_step = [&](const std::vector<base::StepItem>&) {
    if (std::exchange(thrown, true)) return;
    throw std::runtime_error("out of everything");
  };
  const auto a = Submit(Ask("x", 6));
  Step();
  const auto b = Submit(Ask(std::string(50, 'y'), 6));
  EXPECT_EQ(StreamReader().ReadAll(*a).status->code(), absl::StatusCode::kInternal);
  RunUntilIdle();
  EXPECT_EQ(StreamReader().ReadAll(*b).tokens.size(), 6u);
}

TEST_F(LoopTest, StatisticsThatThrowEndTheirRequestOnly) {
  int calls = 0;
  script_->on_stats = [&] {
    if (++calls == 1) throw std::out_of_range("stats");
  };
  GenerationRequest snapshots = Ask("x", 6);
  snapshots.memory_every_n_tokens = 2;
  const auto a = Submit(snapshots), b = Submit(Ask("y", 6));
  RunUntilIdle();
  EXPECT_EQ(StreamReader().ReadAll(*a).order, "SttX");
  EXPECT_EQ(StreamReader().ReadAll(*b).tokens.size(), 6u);
}

TEST_F(LoopTest, AddingThatFailsOrThrowsEndsThatRequestOnly) {
  script_->on_add = [](const base::SequenceSpec& spec) -> absl::Status {
    if (spec.prompt[0] == 't') throw std::runtime_error("add");
    return spec.prompt[0] == 'f' ? absl::InternalError("add") : absl::OkStatus();
  };
  const auto a = Submit(Ask("t", 3)), b = Submit(Ask("f", 3)), c = Submit(Ask("y", 3));
  RunUntilIdle();
  EXPECT_EQ(StreamReader().ReadAll(*a).status->code(), absl::StatusCode::kInternal);
  EXPECT_EQ(StreamReader().ReadAll(*b).status->code(), absl::StatusCode::kInternal);
  EXPECT_EQ(StreamReader().ReadAll(*c).tokens.size(), 3u);
}

TEST_F(LoopTest, AnEngineThatForgetsATokenIsAnInternalErrorNotAnEndlessLoop) {
  script_->decorate = [](const base::SequenceSpec&, uint32_t index, base::StepOutcome& outcome) {
    if (index == 1) outcome.token.reset();
  };
  EXPECT_EQ(Run(Ask("x", 5)).order, "StX");
}

// --- draining ---

TEST_F(LoopTest, WhileDrainingHasTimeEverybodyFinishes) {
  options_.max_batch = 1;
  const auto a = Submit(Ask("x", 5)), b = Submit(Ask("y", 5));
  const base::TimePoint deadline = clock_.Now() + seconds(60);
  while (!Step(deadline).idle) {
  }
  EXPECT_EQ(StreamReader().ReadAll(*a).finished->reason, FinishReason::kLength);
  EXPECT_EQ(StreamReader().ReadAll(*b).finished->reason, FinishReason::kLength);
}

TEST_F(LoopTest, WhenDrainingRunsOutOfTimeWhoDecodesKeepsItsTextAndWhoWaitsIsRefused) {
  options_.max_batch = 3;
  GenerationRequest decoding = Ask("x", 500);
  decoding.stop = {"cdz"};
  const auto a = Submit(decoding);
  for (int i = 0; i < 3; ++i) Step();
  mailbox_bytes_ = 2 * sizeof(Event);
  const auto paused = Submit(Ask("p", 500));
  mailbox_bytes_ = 1 << 20;
  Step();
  const auto reading = Submit(Ask(std::string(500, 'y'), 5)), waiting = Submit(Ask("z", 5));
  Step();
  clock_.Advance(seconds(1));
  EXPECT_TRUE(Step(clock_.Now()).idle);

  const StreamReader stream = StreamReader().ReadAll(*a);
  EXPECT_EQ(stream.order, "SttttttF");
  EXPECT_EQ(stream.text(), "abcdef") << "with what a stop string might have held back";
  EXPECT_EQ(stream.finished->reason, FinishReason::kDraining);
  const StreamReader slow = StreamReader().ReadAll(*paused);
  EXPECT_EQ(slow.order, "SttF");
  EXPECT_EQ(slow.finished->reason, FinishReason::kDraining);
  const StreamReader read = StreamReader().ReadAll(*reading);
  EXPECT_EQ(read.order, "SF");
  EXPECT_EQ(read.finished->reason, FinishReason::kDraining);
  EXPECT_EQ(read.finished->memory.total_tokens, 16u);
  EXPECT_EQ(StreamReader().ReadAll(*waiting).status->code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Shows("ebbinghaus_requests_finished_total{mode=\"baseline\",reason=\"draining\"} 3"));
}

TEST_F(LoopTest, HeldBackTextIsDeliveredByTheLastTokenOfADrain) {
  GenerationRequest request = Ask("x", 500);
  request.stop = {"cdez"};
  const auto a = Submit(request);
  for (int i = 0; i < 3; ++i) Step();
  Step(clock_.Now());
  const StreamReader stream = StreamReader().ReadAll(*a);
  EXPECT_EQ(stream.tokens.back().text, "cd");
  EXPECT_EQ(stream.text(), "abcd");
}

// --- what others see ---

TEST_F(LoopTest, ByTheTimeTheReaderHearsTheEndIdGaugesAndLogKnowIt) {
  GenerationRequest request = Ask("x", 2);
  request.request_id = "again";
  const auto a = Submit(request);
  StreamReader stream;
  std::function<void()> read = [&] {
    if (!stream.ReadAll(*a).ended()) return a->OnReady(read);
    EXPECT_EQ(loop_->running_requests(), 0u);
    EXPECT_EQ(loop_->kv_used_bytes(), 0u);
    EXPECT_TRUE(Shows("ebbinghaus_requests_running{mode=\"baseline\"} 0"));
    EXPECT_TRUE(Shows("ebbinghaus_kv_used_bytes{mode=\"baseline\"} 0"));
    EXPECT_EQ(log_.size(), 1u);
    Submit(request);  // fails if the id is still taken
  };
  a->OnReady(read);
  RunUntilIdle();
  EXPECT_EQ(stream.order, "SttF");
  EXPECT_EQ(log_.size(), 2u);
}

TEST_F(LoopTest, ARequestCountsAsRunningFromItsFirstStepOn) {
  uint32_t steps = 0;
  script_->on_step = [&](const std::vector<base::StepItem>&) {
    ++steps;
    EXPECT_EQ(loop_->running_requests(), 1u);
    EXPECT_EQ(queue_->waiting().requests, 0u);
    EXPECT_TRUE(Shows("ebbinghaus_requests_running{mode=\"baseline\"} 1"));
  };
  const auto a = Submit(Ask("x", 2));
  RunUntilIdle();
  EXPECT_EQ(steps, 2u);
  EXPECT_EQ(loop_->running_requests(), 0u);
}

TEST_F(LoopTest, GaugesFollowWhatRuns) {
  GenerationRequest sparse = Ask("0123456789", 5);
  sparse.generation_mode = GenerationMode::kSparseAttention;
  const auto a = Submit(sparse), b = Submit(Ask("x", 5));
  Step();
  Step();
  Step();
  EXPECT_TRUE(Shows("ebbinghaus_requests_running{mode=\"sparse_attention\"} 1"));
  EXPECT_TRUE(Shows("ebbinghaus_live_tokens{mode=\"sparse_attention\"} 12"));
  EXPECT_TRUE(Shows("ebbinghaus_kv_used_bytes{mode=\"sparse_attention\"} 1200"));
  EXPECT_TRUE(Shows("ebbinghaus_live_tokens{mode=\"baseline\"} 3"));
  EXPECT_EQ(loop_->kv_used_bytes(), 1500u);
  RunUntilIdle();
  EXPECT_TRUE(Shows("ebbinghaus_live_tokens{mode=\"sparse_attention\"} 0"));
  EXPECT_TRUE(Shows("ebbinghaus_tokens_total{kind=\"prompt\",mode=\"sparse_attention\"} 10"));
  EXPECT_TRUE(Shows("ebbinghaus_tokens_total{kind=\"generated\",mode=\"sparse_attention\"} 5"));
  EXPECT_TRUE(Shows("ebbinghaus_requests_total{code=\"OK\",mode=\"sparse_attention\"} 1"));
  EXPECT_TRUE(Shows("ebbinghaus_requests_finished_total{mode=\"sparse_attention\",reason=\"length\"} 1"));
  EXPECT_TRUE(Shows("ebbinghaus_retention_ratio_sum{mode=\"sparse_attention\"} 2"));  // 4 layers of 0.5
  EXPECT_TRUE(Shows("ebbinghaus_retention_ratio_count{mode=\"baseline\"} 0"));
}

TEST_F(LoopTest, WhatThePrefixCacheHadIsNotReadAndCountedByItself) {
  script_->cached_prompt_tokens = [](const base::SequenceSpec& spec) { return spec.prompt[0] == 'x' ? 6u : 0u; };
  const auto a = Submit(Ask("x123456789", 3)), b = Submit(Ask("y", 3));
  RunUntilIdle();
  const StreamReader stream = StreamReader().ReadAll(*a);
  EXPECT_EQ(stream.started->cached_prompt_tokens, 6u);
  EXPECT_EQ(stream.finished->prompt_tokens, 10u);
  EXPECT_EQ(stream.finished->memory.total_tokens, 12u);
  EXPECT_EQ(script_->steps()[0][0].prompt_tokens, 4u) << "the rest, in one step";
  EXPECT_EQ(stream.finished->prefill, milliseconds(10));
  EXPECT_EQ(StreamReader().ReadAll(*b).started->cached_prompt_tokens, 0u);
  EXPECT_TRUE(Shows("ebbinghaus_tokens_total{kind=\"prompt\",mode=\"baseline\"} 5"));
  EXPECT_TRUE(Shows("ebbinghaus_tokens_total{kind=\"prompt_cached\",mode=\"baseline\"} 6"));
  EXPECT_THAT(log_[0] + log_[1], HasSubstr("\"prompt_tokens\":10,\"cached_prompt_tokens\":6"));
}

TEST_F(LoopTest, CachedTokensAreLiveFromTheStart) {
  script_->cached_prompt_tokens = [](const base::SequenceSpec&) { return 30u; };
  script_->on_step = [&](const std::vector<base::StepItem>&) {
    EXPECT_TRUE(Shows("ebbinghaus_live_tokens{mode=\"baseline\"} 30"));
    EXPECT_TRUE(Shows("ebbinghaus_kv_used_bytes{mode=\"baseline\"} 3000"));
  };
  const auto a = Submit(Ask(std::string(40, 'x'), 1));
  RunUntilIdle();
}

TEST_F(LoopTest, WhatThePrefixCacheHoldsIsShownAlsoWhenNobodyRuns) {
  script_->on_step = [&](const std::vector<base::StepItem>&) { script_->kv_cached_bytes = 700; };
  const auto a = Submit(Ask("x", 1));
  RunUntilIdle();
  EXPECT_EQ(loop_->kv_cached_bytes(), 700u);
  EXPECT_EQ(loop_->kv_used_bytes(), 0u);
  EXPECT_TRUE(Shows("ebbinghaus_kv_cached_bytes 700"));
}

TEST_F(LoopTest, ARequestThatEndsWhileItReadsHoldsWhatWasCachedToo) {
  script_->cached_prompt_tokens = [](const base::SequenceSpec&) { return 30u; };
  const auto a = Submit(Ask(std::string(40, 'x'), 5)), b = Submit(Ask(std::string(40, 'y'), 5));
  Step();  // a reads its last 10 tokens, and b 6 of its own
  Step(clock_.Now());
  EXPECT_EQ(StreamReader().ReadAll(*b).finished->memory.total_tokens, 36u);
}

TEST_F(LoopTest, DecodeTimeIsAStepsTimeOncePerSequenceInIt) {
  const auto a = Submit(Ask("x", 5)), b = Submit(Ask("y", 5));
  RunUntilIdle();
  EXPECT_TRUE(Shows("ebbinghaus_prefill_seconds_total{mode=\"baseline\"} 0.02"));
  EXPECT_TRUE(Shows("ebbinghaus_decode_seconds_total{mode=\"baseline\"} 0.08"));
  EXPECT_TRUE(Shows("ebbinghaus_inter_token_latency_seconds_count{mode=\"baseline\"} 8"));
  EXPECT_TRUE(Shows("ebbinghaus_time_to_first_token_seconds_count{mode=\"baseline\"} 2"));
  EXPECT_TRUE(Shows("ebbinghaus_batch_size_sum 10"));
}

TEST_F(LoopTest, EveryRequestLeavesOneLineWithoutItsPrompt) {
  GenerationRequest request = Ask("SECRET", 3);
  request.request_id = R"(quote" and \ slash)";
  Run(request);
  Submit(Ask("SECRET", 3))->Cancel();
  RunUntilIdle();
  ASSERT_EQ(log_.size(), 2u);
  const auto line = nlohmann::json::parse(log_[0]);
  EXPECT_EQ(line["event"], "request");
  EXPECT_EQ(line["id"], R"(quote" and \ slash)");
  EXPECT_EQ(line["mode"], "baseline");
  EXPECT_EQ(line["code"], "OK");
  EXPECT_EQ(line["finish_reason"], "length");
  EXPECT_EQ(line["prompt_tokens"], 6);
  EXPECT_EQ(line["generated_tokens"], 3);
  EXPECT_DOUBLE_EQ(line["duration_seconds"], 0.03);
  EXPECT_DOUBLE_EQ(line["decode_seconds"], 0.02);
  EXPECT_DOUBLE_EQ(line["tokens_per_second"], 100);
  EXPECT_EQ(nlohmann::json::parse(log_[1])["code"], "CANCELLED");
  for (const std::string& text : log_) EXPECT_THAT(text, Not(HasSubstr("SECRET")));
}

TEST_F(LoopTest, PromptAndAnswerAreLoggedOnlyWhereThatIsWanted) {
  options_.log_prompts = true;
  Run(Ask("my prompt", 3));
  const auto line = nlohmann::json::parse(log_.at(0));
  EXPECT_EQ(line["prompt"], "my prompt");
  EXPECT_EQ(line["answer"], "abc");
}

}  // namespace
}  // namespace ebbinghaus::scheduler
