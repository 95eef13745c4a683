#include "server/metrics/metrics.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "server/metrics/process.h"
#include "tests/support/fake_clock.h"

namespace ebbinghaus::metrics {
namespace {

using base::GenerationMode;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A page in the text exposition format, read strictly: every line must be a HELP, a TYPE or a sample.
struct Page {
  explicit Page(const std::string& text) {
    static const std::regex kHelp("# HELP ([a-z_]+) (.+)"), kType("# TYPE ([a-z_]+) (counter|gauge|histogram)"),
        kSample(R"re(([a-z_]+)(\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})? (\S+))re");
    std::istringstream lines(text);
    std::smatch match;
    for (std::string line; std::getline(lines, line);) {
      if (std::regex_match(line, match, kHelp)) {
        EXPECT_TRUE(help.emplace(match[1], match[2]).second) << "twice: " << line;
      } else if (std::regex_match(line, match, kType)) {
        EXPECT_TRUE(type.emplace(match[1], match[2]).second) << "twice: " << line;
      } else if (std::regex_match(line, match, kSample)) {
        EXPECT_TRUE(samples.emplace(match[1].str() + match[2].str(), std::stod(match[3])).second) << "twice: " << line;
      } else {
        ADD_FAILURE() << "not in the format: " << line;
      }
    }
  }
  double operator[](const std::string& series) const {
    const auto found = samples.find(series);
    if (found != samples.end()) return found->second;
    ADD_FAILURE() << "no series " << series;
    return -1;
  }
  std::map<std::string, std::string> help, type;
  std::map<std::string, double> samples;
};

class MetricsTest : public ::testing::Test {
 protected:
  Page Scrape() { return Page(metrics_.Serialize()); }

  support::FakeClock clock_;
  Metrics metrics_{&clock_, [] { return 1234.5; }};
};

TEST_F(MetricsTest, EveryMetricOfTheContractIsThereWithHelpAndType) {
  metrics_.SetBuildInfo("1");
  metrics_.SetModelInfo({});
  const Page page = Scrape();
  const std::map<std::string, std::string> contract = {
      {"ebbinghaus_tokens_total", "counter"},
      {"ebbinghaus_tokens_per_second", "gauge"},
      {"ebbinghaus_decode_seconds_total", "counter"},
      {"ebbinghaus_prefill_seconds_total", "counter"},
      {"ebbinghaus_requests_total", "counter"},
      {"ebbinghaus_requests_finished_total", "counter"},
      {"ebbinghaus_requests_rejected_total", "counter"},
      {"ebbinghaus_requests_running", "gauge"},
      {"ebbinghaus_requests_queued", "gauge"},
      {"ebbinghaus_queued_prompt_tokens", "gauge"},
      {"ebbinghaus_time_to_first_token_seconds", "histogram"},
      {"ebbinghaus_inter_token_latency_seconds", "histogram"},
      {"ebbinghaus_request_duration_seconds", "histogram"},
      {"ebbinghaus_queue_seconds", "histogram"},
      {"ebbinghaus_batch_size", "histogram"},
      {"ebbinghaus_kv_used_bytes", "gauge"},
      {"ebbinghaus_kv_cached_bytes", "gauge"},
      {"ebbinghaus_kv_capacity_bytes", "gauge"},
      {"ebbinghaus_live_tokens", "gauge"},
      {"ebbinghaus_forgotten_tokens_total", "counter"},
      {"ebbinghaus_token_age_at_forgetting_tokens", "histogram"},
      {"ebbinghaus_retention_ratio", "histogram"},
      {"ebbinghaus_cancel_latency_seconds", "histogram"},
      {"ebbinghaus_stream_backpressure_total", "counter"},
      {"ebbinghaus_scheduler_last_step_timestamp_seconds", "gauge"},
      {"ebbinghaus_build_info", "gauge"},
      {"ebbinghaus_model_info", "gauge"},
      {"process_cpu_seconds_total", "counter"},
      {"process_resident_memory_bytes", "gauge"},
      {"process_virtual_memory_bytes", "gauge"},
      {"process_open_fds", "gauge"},
      {"process_max_fds", "gauge"},
      {"process_threads", "gauge"},
      {"process_start_time_seconds", "gauge"},
  };
  EXPECT_EQ(page.type, contract);
  for (const auto& [name, type] : contract) EXPECT_TRUE(page.help.count(name)) << name;
}

TEST_F(MetricsTest, EverySeriesOfEveryModeIsZeroFromTheStart) {
  const Page page = Scrape();
  for (const std::string mode : {"baseline", "soft_delete", "sparse_attention"}) {
    const std::string m = "mode=\"" + mode + "\"";
    for (const std::string kind : {"prompt", "prompt_cached", "generated"}) {
      EXPECT_EQ(page["ebbinghaus_tokens_total{kind=\"" + kind + "\"," + m + "}"], 0);
    }
    for (const std::string code : {"OK", "CANCELLED", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "ALREADY_EXISTS",
                                   "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE"}) {
      EXPECT_EQ(page["ebbinghaus_requests_total{code=\"" + code + "\"," + m + "}"], 0);
    }
    for (const std::string reason : {"eos", "stop", "length", "draining"}) {
      EXPECT_EQ(page["ebbinghaus_requests_finished_total{" + m + ",reason=\"" + reason + "\"}"], 0);
    }
    for (const std::string name : {"tokens_per_second", "decode_seconds_total", "prefill_seconds_total",
                                   "requests_running", "kv_used_bytes", "live_tokens", "forgotten_tokens_total",
                                   "time_to_first_token_seconds_count", "inter_token_latency_seconds_count",
                                   "request_duration_seconds_count", "retention_ratio_count"}) {
      EXPECT_EQ(page["ebbinghaus_" + name + "{" + m + "}"], 0);
    }
  }
  for (const std::string name : {"requests_queued", "queued_prompt_tokens", "kv_cached_bytes", "kv_capacity_bytes",
                                 "queue_seconds_count", "batch_size_count", "cancel_latency_seconds_count",
                                 "token_age_at_forgetting_tokens_count", "scheduler_last_step_timestamp_seconds"}) {
    EXPECT_EQ(page["ebbinghaus_" + name], 0);
  }
  for (const std::string reason :
       {"invalid_argument", "duplicate_id", "queue_full", "queue_tokens", "kv_memory", "draining", "unauthenticated"}) {
    EXPECT_EQ(page["ebbinghaus_requests_rejected_total{reason=\"" + reason + "\"}"], 0);
  }
  EXPECT_EQ(page["ebbinghaus_stream_backpressure_total{action=\"paused\"}"], 0);
  EXPECT_EQ(page["ebbinghaus_stream_backpressure_total{action=\"cancelled\"}"], 0);
}

TEST_F(MetricsTest, EachMethodMovesItsOwnSeriesAndNoOther) {
  const auto mode = GenerationMode::kSoftDelete;
  const auto code = absl::StatusCode::kCancelled;
  const std::string m = "{mode=\"soft_delete\"}";
  struct Row {
    std::function<void()> act;
    std::map<std::string, double> moved;  // without the prefix; buckets aside
  };
  const std::vector<Row> rows = {
      {[&] { metrics_.AddPromptTokens(mode, 7); }, {{"tokens_total{kind=\"prompt\",mode=\"soft_delete\"}", 7}}},
      {[&] { metrics_.AddCachedPromptTokens(mode, 6); },
       {{"tokens_total{kind=\"prompt_cached\",mode=\"soft_delete\"}", 6}}},
      {[&] { metrics_.AddGeneratedTokens(mode, 5); },
       {{"tokens_total{kind=\"generated\",mode=\"soft_delete\"}", 5}, {"tokens_per_second" + m, 0.5}}},
      {[&] { metrics_.AddDecodeTime(mode, milliseconds(250)); }, {{"decode_seconds_total" + m, 0.25}}},
      {[&] { metrics_.AddPrefillTime(mode, milliseconds(750)); }, {{"prefill_seconds_total" + m, 0.75}}},
      {[&] { metrics_.StepEnded(3); },
       {{"batch_size_sum", 3}, {"batch_size_count", 1}, {"scheduler_last_step_timestamp_seconds", 1234.5}}},
      {[&] { metrics_.RequestEnded(mode, code, seconds(2)); },
       {{"requests_total{code=\"CANCELLED\",mode=\"soft_delete\"}", 1},
        {"request_duration_seconds_sum" + m, 2},
        {"request_duration_seconds_count" + m, 1}}},
      {[&] { metrics_.RequestEnded(mode, code, std::nullopt); },
       {{"requests_total{code=\"CANCELLED\",mode=\"soft_delete\"}", 1}}},
      {[&] { metrics_.RequestFinished(mode, base::FinishReason::kStop); },
       {{"requests_finished_total{mode=\"soft_delete\",reason=\"stop\"}", 1}}},
      {[&] { metrics_.RequestRejected(Rejection::kQueueTokens); },
       {{"requests_rejected_total{reason=\"queue_tokens\"}", 1}}},
      {[&] { metrics_.SetRunning(mode, 4); }, {{"requests_running" + m, 4}}},
      {[&] { metrics_.SetQueued(2, 900); }, {{"requests_queued", 2}, {"queued_prompt_tokens", 900}}},
      {[&] { metrics_.ObserveQueueTime(seconds(3)); }, {{"queue_seconds_sum", 3}, {"queue_seconds_count", 1}}},
      {[&] { metrics_.ObserveTimeToFirstToken(mode, seconds(1)); },
       {{"time_to_first_token_seconds_sum" + m, 1}, {"time_to_first_token_seconds_count" + m, 1}}},
      {[&] { metrics_.ObserveInterTokenLatency(mode, milliseconds(125)); },
       {{"inter_token_latency_seconds_sum" + m, 0.125}, {"inter_token_latency_seconds_count" + m, 1}}},
      {[&] { metrics_.ObserveCancelLatency(milliseconds(500)); },
       {{"cancel_latency_seconds_sum", 0.5}, {"cancel_latency_seconds_count", 1}}},
      {[&] { metrics_.CountBackpressure(Backpressure::kPaused); },
       {{"stream_backpressure_total{action=\"paused\"}", 1}}},
      {[&] { metrics_.CountBackpressure(Backpressure::kCancelled); },
       {{"stream_backpressure_total{action=\"cancelled\"}", 1}}},
      {[&] { metrics_.SetLive(mode, 4096, 17); }, {{"kv_used_bytes" + m, 4096}, {"live_tokens" + m, 17}}},
      {[&] { metrics_.SetKvCachedBytes(11); }, {{"kv_cached_bytes", 11}}},
      {[&] { metrics_.SetKvCapacityBytes(1u << 30); }, {{"kv_capacity_bytes", 1u << 30}}},
      {[&] { metrics_.AddForgottenTokens(mode, 9); }, {{"forgotten_tokens_total" + m, 9}}},
      {[&] { metrics_.ObserveAgeAtForgetting(691); },
       {{"token_age_at_forgetting_tokens_sum", 691}, {"token_age_at_forgetting_tokens_count", 1}}},
      {[&] { metrics_.ObserveRetention(mode, 0.75); },
       {{"retention_ratio_sum" + m, 0.75}, {"retention_ratio_count" + m, 1}}},
  };
  for (const Row& row : rows) {
    const Page before = Scrape();
    row.act();
    const Page after = Scrape();
    std::map<std::string, double> moved;
    for (const auto& [series, value] : after.samples) {
      if (series.find("_bucket{") != series.npos || series.rfind("ebbinghaus_", 0) != 0) continue;
      if (value != before[series]) moved[series.substr(11)] = value - before[series];
    }
    EXPECT_EQ(moved, row.moved);
  }
}

TEST_F(MetricsTest, ACodeThatWasNotExpectedGetsASeriesOfItsOwn) {
  metrics_.RequestEnded(GenerationMode::kBaseline, absl::StatusCode::kDataLoss, seconds(0));
  EXPECT_EQ(Scrape()["ebbinghaus_requests_total{code=\"DATA_LOSS\",mode=\"baseline\"}"], 1);
}

TEST_F(MetricsTest, TokensPerSecondIsTheAverageOfTenSecondsAndFallsToZeroByItself) {
  const std::string series = "ebbinghaus_tokens_per_second{mode=\"sparse_attention\"}";
  for (int i = 0; i < 50; ++i) {
    metrics_.AddGeneratedTokens(GenerationMode::kSparseAttention, 2);
    clock_.Advance(milliseconds(100));
  }
  EXPECT_DOUBLE_EQ(Scrape()[series], 10);  // 100 tokens
  clock_.Advance(seconds(20));
  EXPECT_EQ(Scrape()[series], 0);
  EXPECT_EQ(Scrape()["ebbinghaus_tokens_total{kind=\"generated\",mode=\"sparse_attention\"}"], 100);
}

TEST_F(MetricsTest, HistogramsCumulateAndInterTokenLatencyStartsAtHalfAMillisecond) {
  metrics_.ObserveInterTokenLatency(GenerationMode::kBaseline, std::chrono::microseconds(400));
  metrics_.ObserveInterTokenLatency(GenerationMode::kBaseline, milliseconds(7));
  metrics_.ObserveInterTokenLatency(GenerationMode::kBaseline, seconds(100));
  const Page page = Scrape();
  const auto bucket = [&](const std::string& le) {
    return page["ebbinghaus_inter_token_latency_seconds_bucket{mode=\"baseline\",le=\"" + le + "\"}"];
  };
  EXPECT_EQ(bucket("0.0005"), 1);
  EXPECT_EQ(bucket("0.006"), 1);
  EXPECT_EQ(bucket("0.008"), 2);
  EXPECT_EQ(bucket("10"), 2);
  EXPECT_EQ(bucket("+Inf"), 3);
}

TEST_F(MetricsTest, InfoSeriesCarryTheirFactsAsLabelsAndSurviveAnyName) {
  metrics_.SetBuildInfo("1.2.3");
  base::ModelInfo model;
  model.name = "a\"b\\c\nd";
  model.context_tokens = 8192;
  metrics_.SetModelInfo(model);
  const std::string text = metrics_.Serialize();
  EXPECT_NE(text.find("ebbinghaus_build_info{version=\"1.2.3\"} 1\n"), text.npos);
  EXPECT_NE(text.find(R"(name="a\"b\\c\nd")"), text.npos);
  EXPECT_NE(text.find(R"(context_tokens="8192")"), text.npos);
}

TEST_F(MetricsTest, StaysBelowAThousandSeries) {
  for (int code = 0; code <= 16; ++code) {
    for (GenerationMode mode : base::kAllModes) {
      metrics_.RequestEnded(mode, static_cast<absl::StatusCode>(code), seconds(1));
    }
  }
  metrics_.SetBuildInfo("1");
  metrics_.SetModelInfo({});
  EXPECT_LT(Scrape().samples.size(), 1000u);
}

TEST_F(MetricsTest, ManyThreadsMayCountAndScrapeAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 500; ++i) {
        metrics_.AddGeneratedTokens(GenerationMode::kBaseline, 1);
        metrics_.ObserveInterTokenLatency(GenerationMode::kBaseline, milliseconds(1));
        metrics_.RequestEnded(GenerationMode::kBaseline, absl::StatusCode::kOk, seconds(1));
        clock_.Advance(milliseconds(1));
        if (i % 100 == 0) {
          EXPECT_FALSE(metrics_.Serialize().empty());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Page page = Scrape();
  EXPECT_EQ(page["ebbinghaus_tokens_total{kind=\"generated\",mode=\"baseline\"}"], 2000);
  EXPECT_EQ(page["ebbinghaus_requests_total{code=\"OK\",mode=\"baseline\"}"], 2000);
  EXPECT_EQ(page["ebbinghaus_tokens_per_second{mode=\"baseline\"}"], 200);
}

TEST(ProcessFacts, AreThoseOfThisProcess) {
  const auto before = ReadProcessFacts();
  ASSERT_TRUE(before.has_value());
  EXPECT_GT(before->resident_bytes, 1u << 20);
  EXPECT_GE(before->virtual_bytes, before->resident_bytes);
  EXPECT_GE(before->open_fds, 1u);
  EXPECT_LE(before->open_fds, before->max_fds);
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  EXPECT_NEAR(before->start_time_seconds, now, 600);

  FILE* file = std::fopen("/proc/self/status", "r");
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(ReadProcessFacts()->open_fds, before->open_fds + 1);
  std::fclose(file);
  EXPECT_EQ(ReadProcessFacts()->open_fds, before->open_fds);
}

}  // namespace
}  // namespace ebbinghaus::metrics
