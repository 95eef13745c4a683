// Admission, queue, steps, cancellation, drain: everything between an RPC and the engine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/engine.h"
#include "server/base/violations.h"
#include "server/memory/parameters.h"
#include "server/metrics/metrics.h"
#include "server/scheduler/mailbox.h"
#include "server/scheduler/request.h"
#include "server/scheduler/step_budget.h"
#include "server/text/text_model.h"

namespace ebbinghaus::scheduler {

struct Options {
  base::GenerationMode default_mode = base::GenerationMode::kBaseline;
  memory::Preset default_preset = memory::Preset::kDefault;
  uint32_t max_batch = 16;
  uint32_t max_queue = 64;
  uint32_t max_queue_tokens = 1u << 20;
  size_t mailbox_bytes = 256 * 1024;
  StepLimits step;
  base::Duration slow_reader_timeout = std::chrono::seconds(30);
  bool log_requests = true;  // the summary line of each
  bool log_prompts = false;
  std::function<uint64_t()> random;  // seeds and request ids; thread safe; unset: the system's random device
};

struct Status {
  enum class State { kServing, kDraining, kStopped } state = State::kServing;
  uint32_t running = 0, queued = 0;
  uint64_t queued_prompt_tokens = 0;
  uint64_t kv_used_bytes = 0, kv_cached_bytes = 0, kv_capacity_bytes = 0;
  base::Duration busy{};  // how long the engine's thread has been in one turn; 0 between turns
};

// Owns the engine and its one thread, which never waits for a reader and sleeps while there is nothing to do.
// All methods are thread safe.
class Scheduler {
 public:
  // `metrics` and `clock` outlive this and every mailbox it hands out.
  Scheduler(Options options, std::unique_ptr<base::Engine> engine, std::shared_ptr<const text::TextModel> text,
            metrics::Metrics* metrics, const base::Clock* clock);
  ~Scheduler();  // as Drain with no time left

  // Admits (tokenizes, validates, queues) and returns where the events will arrive. The tokenizing is done by the calling
  // thread. `violations` may hold some already; they count.
  // Errors: Cancelled (the request is abandoned), InvalidArgument (violations are then in *violations), ResourceExhausted, AlreadyExists, Unavailable.
  absl::StatusOr<std::shared_ptr<Mailbox>> Submit(GenerationRequest request, base::Violations* violations);

  // Refuses new requests, lets those underway finish for at most `time_left`, ends the rest with kDraining (those still
  // waiting with Unavailable). Returns when none is left; then the scheduler is stopped.
  void Drain(base::Duration time_left);
  // The same without waiting; also cuts short a drain that is under way.
  void BeginDrain(base::Duration time_left);

  Status status() const;
  const base::ModelInfo& model() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ebbinghaus::scheduler
