#include "server/rpc/event_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace ebbinghaus::rpc {
namespace {

using testing::ElementsAre;

base::AttentionRow Row(uint32_t layer, size_t size) {
  base::AttentionRow row;
  row.layer = layer;
  for (size_t i = 0; i < size; ++i) {
    row.positions.push_back(static_cast<base::Position>(0xffffff00u - i));
    row.weights.push_back(1.0f / static_cast<float>(i + 1));
  }
  return row;
}

base::TokenWeights Weights(uint32_t layer, size_t size) {
  base::TokenWeights weights;
  weights.layer = layer;
  weights.positions.resize(size);
  std::iota(weights.positions.begin(), weights.positions.end(), 0xfffff000u);
  weights.retention.assign(size, 0.5f);
  weights.strength.assign(size, 5.0f);
  weights.time.assign(size, 0.25f);
  weights.forgotten_step.assign(size, 0xffffffffu);
  return weights;
}

void ExpectAllAtMost(const std::vector<v1::GenerateResponse>& messages, size_t bytes) {
  for (const v1::GenerateResponse& message : messages) EXPECT_LE(message.ByteSizeLong(), bytes);
}

TEST(EventConversionTest, ATokenIsOneMessageWithEverythingInIt) {
  scheduler::TokenEvent event;
  event.token.id = 7;
  event.token.logprob = -0.5;
  event.token.candidates = {{7, -0.5}, {8, -1.5}};
  event.token.attention = {Row(2, 3)};
  event.token.live_tokens = 11;
  event.text = "é";
  event.raw = "\xc3\xa9";
  auto messages = EventConverter().Convert(event);
  ASSERT_EQ(messages.size(), 1u);
  const v1::Token& token = messages[0].token();
  EXPECT_EQ(token.id(), 7u);
  EXPECT_EQ(token.text(), "é");
  EXPECT_EQ(token.raw(), "\xc3\xa9");
  EXPECT_EQ(token.logprob(), -0.5);
  ASSERT_EQ(token.candidates_size(), 2);
  EXPECT_EQ(token.candidates(1).id(), 8u);
  EXPECT_EQ(token.live_tokens(), 11u);
  ASSERT_EQ(token.attention_size(), 1);
  EXPECT_EQ(token.attention(0).layer(), 2u);
  EXPECT_EQ(token.attention(0).positions_size(), 3);
  EXPECT_EQ(token.attention(0).weights(2), 1.0f / 3);
}

TEST(EventConversionTest, LogprobIsUnsetUnlessThere) {
  EXPECT_FALSE(EventConverter().Convert(scheduler::TokenEvent{})[0].token().has_logprob());
}

TEST(EventConversionTest, LargeAttentionFollowsItsTokenInMemoryEventsThatFit) {
  constexpr size_t kLimit = 2000;
  EventConverter converter(kLimit);
  scheduler::TokenEvent event;
  event.token.attention = {Row(0, 500), Row(1, 1), Row(2, 0), Row(3, 700)};
  converter.Convert(scheduler::TokenEvent{});  // step 0
  auto messages = converter.Convert(event);
  ExpectAllAtMost(messages, kLimit);
  ASSERT_GT(messages.size(), 3u);
  EXPECT_EQ(messages[0].token().attention_size(), 0);

  std::map<uint32_t, base::AttentionRow> joined;
  for (size_t m = 1; m < messages.size(); ++m) {
    EXPECT_EQ(messages[m].memory().step(), 1u);
    for (const v1::AttentionRow& piece : messages[m].memory().attention()) {
      base::AttentionRow& row = joined[piece.layer()];
      row.positions.insert(row.positions.end(), piece.positions().begin(), piece.positions().end());
      row.weights.insert(row.weights.end(), piece.weights().begin(), piece.weights().end());
    }
  }
  ASSERT_EQ(joined.size(), 4u);
  for (const base::AttentionRow& row : event.token.attention) {
    EXPECT_EQ(joined[row.layer].positions, row.positions) << row.layer;
    EXPECT_EQ(joined[row.layer].weights, row.weights) << row.layer;
  }
}

TEST(EventConversionTest, AttentionThatJustFitsStaysWithItsToken) {
  for (size_t size = 1; size < 300; ++size) {
    scheduler::TokenEvent event;
    event.token.attention = {Row(0, size), Row(1, size)};
    ExpectAllAtMost(EventConverter(3000).Convert(event), 3000);
  }
}

TEST(EventConversionTest, TokenWeightsAreCutAndJoinAgain) {
  constexpr size_t kLimit = 1500;
  scheduler::MemoryEvent event;
  event.step = 9;
  event.token_weights = {Weights(0, 123), Weights(1, 0), Weights(2, 321)};
  auto messages = EventConverter(kLimit).Convert(event);
  ExpectAllAtMost(messages, kLimit);
  std::map<uint32_t, int> positions, retention, strength, time, forgotten;
  for (const v1::GenerateResponse& message : messages) {
    EXPECT_EQ(message.memory().step(), 9u);
    for (const v1::TokenWeights& piece : message.memory().token_weights()) {
      positions[piece.layer()] += piece.positions_size();
      retention[piece.layer()] += piece.retention_size();
      strength[piece.layer()] += piece.strength_size();
      time[piece.layer()] += piece.time_size();
      forgotten[piece.layer()] += piece.forgotten_step_size();
    }
  }
  const std::map<uint32_t, int> expected = {{0, 123}, {1, 0}, {2, 321}};
  EXPECT_EQ(positions, expected);
  EXPECT_EQ(retention, expected);
  EXPECT_EQ(strength, expected);
  EXPECT_EQ(time, expected);
  EXPECT_EQ(forgotten, expected);
}

TEST(EventConversionTest, ASmallMemoryEventIsOneMessage) {
  scheduler::MemoryEvent event;
  event.step = 3;
  event.snapshot.emplace();
  event.snapshot->total_tokens = 10;
  event.snapshot->layers.resize(2);
  event.snapshot->layers[1].mean_retention = 0.5;
  base::ForgetEvent forgotten;
  forgotten.step = 3;
  forgotten.position = 4;
  forgotten.token_id = 5;
  forgotten.votes = 6;
  event.forgotten = {forgotten};
  forgotten.layer = 0;
  event.forgotten.push_back(forgotten);
  auto messages = EventConverter().Convert(event);
  ASSERT_EQ(messages.size(), 1u);
  const v1::MemoryEvent& memory = messages[0].memory();
  EXPECT_EQ(memory.step(), 3u);
  EXPECT_EQ(memory.snapshot().total_tokens(), 10u);
  EXPECT_EQ(memory.snapshot().layers(1).layer(), 1u);
  EXPECT_EQ(memory.snapshot().layers(1).mean_retention(), 0.5);
  ASSERT_EQ(memory.forgotten_size(), 2);
  EXPECT_EQ(memory.forgotten(0).votes(), 6u);
  EXPECT_FALSE(memory.forgotten(0).has_layer());
  EXPECT_TRUE(memory.forgotten(1).has_layer());
}

TEST(EventConversionTest, ManyForgetEventsAreCut) {
  scheduler::MemoryEvent event;
  event.snapshot.emplace();
  event.forgotten.resize(1000);
  for (uint32_t i = 0; i < 1000; ++i) {
    event.forgotten[i] = {0xffffffff, 0xffffff00 + i % 256, 0xffffffff, 0xffffffff, 0xffffffff, 0, 0};
  }
  auto messages = EventConverter(4096).Convert(event);
  ExpectAllAtMost(messages, 4096);
  int count = 0;
  for (const v1::GenerateResponse& message : messages) count += message.memory().forgotten_size();
  EXPECT_EQ(count, 1000);
}

scheduler::Started StartedIn(base::GenerationMode mode) {
  auto spec = std::make_shared<base::SequenceSpec>();
  spec->prompt = {1, 2, 3};
  spec->mode = mode;
  spec->sampling.seed = 42;
  spec->max_new_tokens = 5;
  scheduler::Started started;
  started.request_id = "id";
  started.model = "m";
  started.spec = spec;
  return started;
}

TEST(EventConversionTest, StartedReportsWhatIsInForce) {
  v1::Started started = ToProto(StartedIn(base::GenerationMode::kSparseAttention));
  EXPECT_EQ(started.request_id(), "id");
  EXPECT_EQ(started.mode(), v1::GENERATION_MODE_SPARSE_ATTENTION);
  EXPECT_EQ(started.seed(), 42u);
  EXPECT_EQ(started.prompt_tokens(), 3u);
  EXPECT_EQ(started.sampling().temperature(), 0.7);
  EXPECT_EQ(started.memory().forget_threshold(), 0.001);
  EXPECT_EQ(started.memory().scope(), v1::FORGET_SCOPE_CONSENSUS);
  EXPECT_FALSE(started.memory().has_soft_floor());
}

TEST(EventConversionTest, StartedShowsOnlyTheModesOwnMemoryParameters) {
  EXPECT_FALSE(ToProto(StartedIn(base::GenerationMode::kBaseline)).has_memory());
  v1::MemoryParameters soft = ToProto(StartedIn(base::GenerationMode::kSoftDelete)).memory();
  EXPECT_EQ(soft.soft_floor(), 0.8);
  EXPECT_EQ(soft.soft_form(), v1::SOFT_FORM_LOG_BIAS);
  EXPECT_FALSE(soft.has_forget_threshold());
  EXPECT_FALSE(soft.has_sink_tokens());
}

TEST(EventConversionTest, AStartedThatWouldBeTooLargeLeavesOutWhatTheClientKnows) {
  auto spec = std::make_shared<base::SequenceSpec>();
  spec->mode = base::GenerationMode::kSparseAttention;
  std::vector<base::TokenRange> pinned;
  for (uint32_t i = 0; i < 100; ++i) {
    spec->sampling.logit_bias.emplace_back(i, 1.0);
    pinned.push_back({2 * i, 2 * i + 1});
  }
  spec->memory.pinned = base::TokenRanges(pinned);
  scheduler::Started started;
  started.spec = spec;
  EXPECT_EQ(ToProto(started, 1 << 20).sampling().logit_bias_size(), 100);
  v1::Started without_bias = ToProto(started, 1400);
  EXPECT_EQ(without_bias.sampling().logit_bias_size(), 0);
  EXPECT_EQ(without_bias.memory().pinned_size(), 100);
  EXPECT_EQ(ToProto(started, 700).memory().pinned_size(), 0);
}

TEST(EventConversionTest, FinishedReportsUsageAndMemory) {
  scheduler::Finished finished;
  finished.reason = base::FinishReason::kStop;
  finished.matched_stop = "###";
  finished.prompt_tokens = 3;
  finished.generated_tokens = 4;
  finished.decode = std::chrono::milliseconds(1500);
  finished.tokens_per_second = 2;
  finished.memory.live_tokens = 5;
  v1::Finished proto = ToProto(finished);
  EXPECT_EQ(proto.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(proto.matched_stop(), "###");
  EXPECT_EQ(proto.usage().decode_duration().seconds(), 1);
  EXPECT_EQ(proto.usage().decode_duration().nanos(), 500'000'000);
  EXPECT_EQ(proto.usage().tokens_per_second(), 2.0);
  EXPECT_EQ(proto.memory_stats().live_tokens(), 5u);
}

}  // namespace
}  // namespace ebbinghaus::rpc
