#include "server/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <chrono>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "server/metrics/process.h"
#include "server/metrics/rate_window.h"

namespace ebbinghaus::metrics {
namespace {

using base::GenerationMode;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;

constexpr size_t kModes = std::size(base::kAllModes);
constexpr base::FinishReason kReasons[] = {base::FinishReason::kEos, base::FinishReason::kStop,
                                           base::FinishReason::kLength, base::FinishReason::kDraining};
// What the scheduler answers with; any other code gets its series when it first comes.
constexpr absl::StatusCode kUsualCodes[] = {
    absl::StatusCode::kOk,
    absl::StatusCode::kCancelled,
    absl::StatusCode::kInvalidArgument,
    absl::StatusCode::kDeadlineExceeded,
    absl::StatusCode::kAlreadyExists,
    absl::StatusCode::kResourceExhausted,
    absl::StatusCode::kInternal,
    absl::StatusCode::kUnavailable,
};

const Buckets kGapSeconds = {0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03,
                             0.05,   0.075, 0.1,   0.15,  0.25,  0.5,   1,    2.5,   10};
const Buckets kFirstTokenSeconds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
const Buckets kRequestSeconds = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800};
const Buckets kQueueSeconds = {0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
const Buckets kCancelSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
const Buckets kBatchSizes = {1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64};
const Buckets kAges = {16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
const Buckets kRatios = {0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1};

double SystemUnixSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::map<std::string, std::string> ModeLabel(GenerationMode mode) { return {{"mode", std::string(base::Name(mode))}}; }

// One series per mode.
template <typename T>
class PerMode {
 public:
  template <typename... Args>
  explicit PerMode(Family<T>& family, const Args&... args) {
    for (size_t i = 0; i < kModes; ++i) series_[i] = &family.Add(ModeLabel(base::kAllModes[i]), args...);
  }
  T& operator[](GenerationMode mode) const { return *series_[static_cast<size_t>(mode)]; }

 private:
  T* series_[kModes] = {};
};

prometheus::MetricFamily Single(prometheus::MetricType type, const char* name, const char* help, double value) {
  prometheus::MetricFamily family{.name = name, .help = help, .type = type, .metric = {{}}};
  if (type == prometheus::MetricType::Counter) {
    family.metric[0].counter.value = value;
  } else {
    family.metric[0].gauge.value = value;
  }
  return family;
}

void AppendProcess(std::vector<prometheus::MetricFamily>& families) {
  const std::optional<ProcessFacts> facts = ReadProcessFacts();
  if (!facts) return;
  constexpr auto kGauge = prometheus::MetricType::Gauge;
  const auto gauge = [&](const char* name, const char* help, auto value) {
    families.push_back(Single(kGauge, name, help, static_cast<double>(value)));
  };
  families.push_back(Single(prometheus::MetricType::Counter, "process_cpu_seconds_total",
                            "User and system CPU time spent.", facts->cpu_seconds));
  gauge("process_resident_memory_bytes", "Resident memory.", facts->resident_bytes);
  gauge("process_virtual_memory_bytes", "Virtual memory.", facts->virtual_bytes);
  gauge("process_open_fds", "Open file descriptors.", facts->open_fds);
  gauge("process_max_fds", "Most file descriptors that may be open.", facts->max_fds);
  gauge("process_threads", "Threads.", facts->threads);
  gauge("process_start_time_seconds", "Start of the process, Unix time.", facts->start_time_seconds);
}

}  // namespace

std::string_view Name(Rejection reason) {
  switch (reason) {
    case Rejection::kInvalidArgument: return "invalid_argument";
    case Rejection::kDuplicateId: return "duplicate_id";
    case Rejection::kQueueFull: return "queue_full";
    case Rejection::kQueueTokens: return "queue_tokens";
    case Rejection::kKvMemory: return "kv_memory";
    case Rejection::kDraining: return "draining";
    case Rejection::kUnauthenticated: return "unauthenticated";
  }
  return "unknown";
}

// The declarations: one member per metric, in the order of the contract's list.
class Metrics::Impl {
 public:
  Impl(const base::Clock* clock, std::function<double()> unix_seconds)
      : clock_(clock), unix_seconds_(unix_seconds ? std::move(unix_seconds) : SystemUnixSeconds) {
    for (GenerationMode mode : base::kAllModes) {
      for (absl::StatusCode code : kUsualCodes) Requests(mode, code);
      for (base::FinishReason reason : kReasons) Finished(mode, reason);
    }
    for (Rejection reason : kAllRejections) Rejected(reason);
  }

  Counter& Requests(GenerationMode mode, absl::StatusCode code) {
    auto labels = ModeLabel(mode);
    labels["code"] = absl::StatusCodeToString(code);  // the names are gRPC's
    return requests_.Add(labels);
  }
  Counter& Finished(GenerationMode mode, base::FinishReason reason) {
    auto labels = ModeLabel(mode);
    labels["reason"] = std::string(base::Name(reason));
    return finished_.Add(labels);
  }
  Counter& Rejected(Rejection reason) { return rejected_.Add({{"reason", std::string(Name(reason))}}); }

  void AddToWindow(GenerationMode mode, uint64_t tokens) {
    const base::TimePoint now = clock_->Now();
    std::lock_guard lock(mutex_);
    windows_[static_cast<size_t>(mode)].Add(now, tokens);
  }

  // Copies of all values. Holds a lock that counting takes only while it copies one value.
  std::vector<prometheus::MetricFamily> Collect() {
    for (GenerationMode mode : base::kAllModes) tokens_per_second[mode].Set(WindowPerSecond(mode));
    std::vector<prometheus::MetricFamily> families = registry_.Collect();
    AppendProcess(families);
    return families;
  }

  double UnixSeconds() const { return unix_seconds_(); }

 private:
  double WindowPerSecond(GenerationMode mode) {
    std::lock_guard lock(mutex_);
    return windows_[static_cast<size_t>(mode)].PerSecond(clock_->Now());
  }

  template <typename T>
  Family<T>& Declare(prometheus::detail::Builder<T> builder, const char* name, const char* help) {
    return builder.Name(name).Help(help).Register(registry_);
  }
  Family<Counter>& Counters(const char* name, const char* help) {
    return Declare(prometheus::BuildCounter(), name, help);
  }
  Family<Gauge>& Gauges(const char* name, const char* help) { return Declare(prometheus::BuildGauge(), name, help); }
  Family<Histogram>& Histograms(const char* name, const char* help) {
    return Declare(prometheus::BuildHistogram(), name, help);
  }

  const base::Clock* const clock_;
  const std::function<double()> unix_seconds_;
  prometheus::Registry registry_;  // above all that is registered in it

  std::mutex mutex_;
  RateWindow windows_[kModes];  // guarded by mutex_

  Family<Counter>& tokens_ = Counters("ebbinghaus_tokens_total",
                                      "Tokens: read from prompts, taken from the prefix cache, generated.");
  struct TokenCounters {
    TokenCounters(Family<Counter>& family, const char* kind) {
      for (GenerationMode mode : base::kAllModes) {
        auto labels = ModeLabel(mode);
        labels["kind"] = kind;
        series[static_cast<size_t>(mode)] = &family.Add(labels);
      }
    }
    Counter& operator[](GenerationMode mode) const { return *series[static_cast<size_t>(mode)]; }
    Counter* series[kModes] = {};
  };

 public:
  TokenCounters prompt_tokens{tokens_, "prompt"}, cached_tokens{tokens_, "prompt_cached"},
      generated_tokens{tokens_, "generated"};
  PerMode<Gauge> tokens_per_second{
      Gauges("ebbinghaus_tokens_per_second", "Tokens generated per second, over the last ten seconds.")};
  PerMode<Counter> decode_seconds{
      Counters("ebbinghaus_decode_seconds_total",
               "Time of the steps that generated tokens, once for every sequence in the step; generated tokens by "
               "this is what one stream gets.")};
  PerMode<Counter> prefill_seconds{Counters("ebbinghaus_prefill_seconds_total",
                                            "Time of the steps that read prompts, once for every sequence reading.")};

 private:
  Family<Counter>& requests_ = Counters("ebbinghaus_requests_total", "Requests that ended, by gRPC status code.");
  Family<Counter>& finished_ =
      Counters("ebbinghaus_requests_finished_total", "Requests that generated to an end, by the reason for it.");
  Family<Counter>& rejected_ =
      Counters("ebbinghaus_requests_rejected_total", "Requests turned away before they got a sequence.");

 public:
  PerMode<Gauge> running{Gauges("ebbinghaus_requests_running", "Requests that hold a sequence.")};
  Gauge& queued = Gauges("ebbinghaus_requests_queued", "Requests that wait for a sequence.").Add({});
  Gauge& queued_prompt_tokens =
      Gauges("ebbinghaus_queued_prompt_tokens", "Prompt tokens of the requests that wait.").Add({});
  PerMode<Histogram> first_token{Histograms("ebbinghaus_time_to_first_token_seconds",
                                            "From the arrival of the call to its first token."),
                                 kFirstTokenSeconds};
  PerMode<Histogram> gap{
      Histograms("ebbinghaus_inter_token_latency_seconds", "Between two tokens of one request."), kGapSeconds};
  PerMode<Histogram> request_duration{
      Histograms("ebbinghaus_request_duration_seconds", "From the arrival of the call to its end; of those that got a sequence."), kRequestSeconds};
  Histogram& queue_time =
      Histograms("ebbinghaus_queue_seconds", "Waiting for a sequence.").Add({}, kQueueSeconds);
  Histogram& batch_size = Histograms("ebbinghaus_batch_size", "Sequences in a step.").Add({}, kBatchSizes);
  PerMode<Gauge> kv_used{Gauges("ebbinghaus_kv_used_bytes", "K/V memory held by live sequences.")};
  Gauge& kv_cached =
      Gauges("ebbinghaus_kv_cached_bytes", "K/V memory held by reclaimable prefix pages.").Add({});
  Gauge& kv_capacity = Gauges("ebbinghaus_kv_capacity_bytes", "K/V memory there is.").Add({});
  PerMode<Gauge> live_tokens{
      Gauges("ebbinghaus_live_tokens", "Tokens in the caches of live sequences (the fullest layer of each).")};
  PerMode<Counter> forgotten{
      Counters("ebbinghaus_forgotten_tokens_total", "Tokens that left the cache of a live sequence.")};
  Histogram& age = Histograms("ebbinghaus_token_age_at_forgetting_tokens",
                              "Ticks from a token's birth to its forgetting; one tick is one generated token.")
                       .Add({}, kAges);
  PerMode<Histogram> retention{
      Histograms("ebbinghaus_retention_ratio",
                 "Mean retention of a layer's live tokens when a request finishes; 1 is fresh, 0 is faded."),
      kRatios};
  Histogram& cancel_latency =
      Histograms("ebbinghaus_cancel_latency_seconds", "From a client's cancellation to the sequence being freed.")
          .Add({}, kCancelSeconds);
  Family<Counter>& backpressure = Counters("ebbinghaus_stream_backpressure_total",
                                           "Streams whose reader was too slow, by what was done about it.");
  Counter& paused = backpressure.Add({{"action", "paused"}});
  Counter& cancelled = backpressure.Add({{"action", "cancelled"}});
  Gauge& last_step =
      Gauges("ebbinghaus_scheduler_last_step_timestamp_seconds", "When the last step ended, Unix time; 0 before.")
          .Add({});
  Family<Gauge>& build_info = Gauges("ebbinghaus_build_info", "1; the labels tell what was built.");
  Family<Gauge>& model_info = Gauges("ebbinghaus_model_info", "1; the labels tell which model is served.");
};

Metrics::Metrics(const base::Clock* clock, std::function<double()> unix_seconds)
    : impl_(std::make_unique<Impl>(clock, std::move(unix_seconds))) {}
Metrics::~Metrics() = default;

std::string Metrics::Serialize() const { return prometheus::TextSerializer().Serialize(impl_->Collect()); }

void Metrics::AddPromptTokens(GenerationMode mode, uint64_t tokens) {
  impl_->prompt_tokens[mode].Increment(static_cast<double>(tokens));
}
void Metrics::AddCachedPromptTokens(GenerationMode mode, uint64_t tokens) {
  impl_->cached_tokens[mode].Increment(static_cast<double>(tokens));
}
void Metrics::AddGeneratedTokens(GenerationMode mode, uint64_t tokens) {
  impl_->generated_tokens[mode].Increment(static_cast<double>(tokens));
  impl_->AddToWindow(mode, tokens);
}
void Metrics::AddDecodeTime(GenerationMode mode, base::Duration step) {
  impl_->decode_seconds[mode].Increment(base::Seconds(step));
}
void Metrics::AddPrefillTime(GenerationMode mode, base::Duration step) {
  impl_->prefill_seconds[mode].Increment(base::Seconds(step));
}
void Metrics::StepEnded(uint32_t batch_size) {
  impl_->batch_size.Observe(batch_size);
  impl_->last_step.Set(impl_->UnixSeconds());
}
void Metrics::RequestEnded(GenerationMode mode, absl::StatusCode code,
                           std::optional<base::Duration> since_arrival) {
  impl_->Requests(mode, code).Increment();
  if (since_arrival) impl_->request_duration[mode].Observe(base::Seconds(*since_arrival));
}
void Metrics::RequestFinished(GenerationMode mode, base::FinishReason reason) {
  impl_->Finished(mode, reason).Increment();
}
void Metrics::RequestRejected(Rejection reason) { impl_->Rejected(reason).Increment(); }
void Metrics::SetRunning(GenerationMode mode, uint32_t requests) { impl_->running[mode].Set(requests); }
void Metrics::SetQueued(uint32_t requests, uint64_t prompt_tokens) {
  impl_->queued.Set(requests);
  impl_->queued_prompt_tokens.Set(static_cast<double>(prompt_tokens));
}
void Metrics::ObserveQueueTime(base::Duration waited) { impl_->queue_time.Observe(base::Seconds(waited)); }
void Metrics::ObserveTimeToFirstToken(GenerationMode mode, base::Duration since_arrival) {
  impl_->first_token[mode].Observe(base::Seconds(since_arrival));
}
void Metrics::ObserveInterTokenLatency(GenerationMode mode, base::Duration gap) {
  impl_->gap[mode].Observe(base::Seconds(gap));
}
void Metrics::ObserveCancelLatency(base::Duration since_cancel) {
  impl_->cancel_latency.Observe(base::Seconds(since_cancel));
}
void Metrics::CountBackpressure(Backpressure action) {
  (action == Backpressure::kPaused ? impl_->paused : impl_->cancelled).Increment();
}
void Metrics::SetLive(GenerationMode mode, uint64_t kv_bytes, uint64_t live_tokens) {
  impl_->kv_used[mode].Set(static_cast<double>(kv_bytes));
  impl_->live_tokens[mode].Set(static_cast<double>(live_tokens));
}
void Metrics::SetKvCachedBytes(uint64_t bytes) { impl_->kv_cached.Set(static_cast<double>(bytes)); }
void Metrics::SetKvCapacityBytes(uint64_t bytes) { impl_->kv_capacity.Set(static_cast<double>(bytes)); }
void Metrics::AddForgottenTokens(GenerationMode mode, uint64_t tokens) {
  impl_->forgotten[mode].Increment(static_cast<double>(tokens));
}
void Metrics::ObserveAgeAtForgetting(uint32_t age_ticks) { impl_->age.Observe(age_ticks); }
void Metrics::ObserveRetention(GenerationMode mode, double mean_retention) {
  impl_->retention[mode].Observe(mean_retention);
}
void Metrics::SetBuildInfo(const std::string& version) { impl_->build_info.Add({{"version", version}}).Set(1); }
void Metrics::SetModelInfo(const base::ModelInfo& model) {
  impl_->model_info
      .Add({{"name", model.name},
            {"architecture", model.architecture},
            {"weights", model.weights},
            {"kv", model.kv},
            {"context_tokens", std::to_string(model.context_tokens)},
            {"layers", std::to_string(model.layers)}})
      .Set(1);
}

}  // namespace ebbinghaus::metrics
