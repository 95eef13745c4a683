// Every metric, declared once with its unit and meaning. Names carry the prefix ebbinghaus_, save the process_* ones.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/base/engine.h"
#include "server/base/generation.h"

namespace ebbinghaus::metrics {

// Why a request was turned away before it got a sequence.
enum class Rejection {
  kInvalidArgument,
  kDuplicateId,
  kQueueFull,
  kQueueTokens,
  kKvMemory,
  kDraining,
  kUnauthenticated,
};
inline constexpr Rejection kAllRejections[] = {Rejection::kInvalidArgument, Rejection::kDuplicateId,
                                               Rejection::kQueueFull,       Rejection::kQueueTokens,
                                               Rejection::kKvMemory,        Rejection::kDraining,
                                               Rejection::kUnauthenticated};
std::string_view Name(Rejection reason);  // the label: "queue_full" ...

// What is done about a reader slower than its stream.
enum class Backpressure { kPaused, kCancelled };

// One method per metric, or per group that always moves together. Every series of every mode is there at 0 from the
// start. Thread safe. The prometheus types stay in the source file.
class Metrics {
 public:
  // `clock` measures the window of tokens_per_second and must outlive this. `unix_seconds` dates
  // scheduler_last_step_timestamp_seconds; by default the system's clock.
  explicit Metrics(const base::Clock* clock, std::function<double()> unix_seconds = nullptr);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The text exposition format (version 0.0.4). It is printed from a copy, so counting never waits for it.
  std::string Serialize() const;

  // tokens_total, tokens_per_second
  void AddPromptTokens(base::GenerationMode mode, uint64_t tokens);
  void AddCachedPromptTokens(base::GenerationMode mode, uint64_t tokens);
  void AddGeneratedTokens(base::GenerationMode mode, uint64_t tokens);

  // decode_seconds_total, prefill_seconds_total: a step's time, once per sequence in it.
  void AddDecodeTime(base::GenerationMode mode, base::Duration step);
  void AddPrefillTime(base::GenerationMode mode, base::Duration step);
  // batch_size (sequences in the step), scheduler_last_step_timestamp_seconds
  void StepEnded(uint32_t batch_size);

  // requests_total: every call that asks for a text, however it ended. request_duration_seconds: those that got a sequence,
  // so that refusals do not make the server look fast; the others have no `since_arrival`.
  void RequestEnded(base::GenerationMode mode, absl::StatusCode code, std::optional<base::Duration> since_arrival);
  // requests_finished_total: those that ended with a finish reason.
  void RequestFinished(base::GenerationMode mode, base::FinishReason reason);
  void RequestRejected(Rejection reason);
  void SetRunning(base::GenerationMode mode, uint32_t requests);
  // requests_queued, queued_prompt_tokens
  void SetQueued(uint32_t requests, uint64_t prompt_tokens);

  void ObserveQueueTime(base::Duration waited);
  void ObserveTimeToFirstToken(base::GenerationMode mode, base::Duration since_arrival);
  void ObserveInterTokenLatency(base::GenerationMode mode, base::Duration gap);
  void ObserveCancelLatency(base::Duration since_cancel);
  void CountBackpressure(Backpressure action);

  // kv_used_bytes, live_tokens: of all running sequences of a mode.
  void SetLive(base::GenerationMode mode, uint64_t kv_bytes, uint64_t live_tokens);
  void SetKvCachedBytes(uint64_t bytes);
  void SetKvCapacityBytes(uint64_t bytes);

  // forgotten_tokens_total
  void AddForgottenTokens(base::GenerationMode mode, uint64_t tokens);
  // token_age_at_forgetting_tokens
  void ObserveAgeAtForgetting(uint32_t age_ticks);
  // retention_ratio: a layer's mean retention when a request finishes.
  void ObserveRetention(base::GenerationMode mode, double mean_retention);

  // build_info, model_info: 1, with what they tell as labels.
  void SetBuildInfo(const std::string& version);
  void SetModelInfo(const base::ModelInfo& model);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ebbinghaus::metrics
