// A request that holds a sequence: what the engine's outcomes mean for it, and what its reader is told.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "server/base/clock.h"
#include "server/base/engine.h"
#include "server/metrics/metrics.h"
#include "server/scheduler/output_text.h"
#include "server/scheduler/pause_budget.h"
#include "server/scheduler/planner.h"
#include "server/scheduler/request_log.h"
#include "server/scheduler/waiting_queue.h"

namespace ebbinghaus::scheduler {

// What running requests have in common; all of it outlives them.
struct RunningContext {
  const base::Engine* engine = nullptr;
  const text::TextModel* text = nullptr;
  metrics::Metrics* metrics = nullptr;
  bool keep_answer = false;  // for the log
};

// Engine thread only.
class RunningRequest {
 public:
  // The engine has added its sequence, after step `step_number`: counts the time in the queue and tells the reader Started.
  RunningRequest(std::unique_ptr<QueuedRequest> queued, base::SequenceId sequence, RunningContext context,
                 uint64_t step_number, base::TimePoint now);

  base::SequenceId sequence() const { return sequence_; }
  base::GenerationMode mode() const { return spec().mode; }
  const QueuedRequest& queued() const { return *queued_; }
  const std::string& request_id() const { return queued_->request.request_id; }
  const std::optional<base::TimePoint>& deadline() const { return queued_->request.deadline; }
  base::TimePoint arrival() const { return queued_->request.arrival; }
  const std::shared_ptr<Mailbox>& mailbox() const { return queued_->mailbox; }
  bool prompt_read() const { return read_ == spec().prompt.size(); }
  uint32_t generated_tokens() const { return generated_; }
  // Tokens in the fullest layer's cache.
  uint32_t live_tokens() const { return live_; }

  // Also notes when the reader begins to lag behind.
  SequenceView View(base::TimePoint now);
  // How the reader has kept up, as of the last View.
  const PauseBudget& pauses() const { return pauses_; }
  // It asked for more than its tokens and their text, which costs time of the engine's.
  bool wants_reports() const;

  // Takes what a step brought and tells the reader. `last_step`: the server does not run another. Returns why the
  // generation ends here, if it does; the reader is not told that yet.
  // Requires: the outcome's status is OK. Errors: Internal when the engine broke its promise.
  absl::StatusOr<std::optional<base::FinishReason>> OnStep(const base::StepItem& item, base::StepOutcome outcome,
                                                           uint64_t step_number, bool last_step, base::TimePoint now);

  // It has ended but for the token weights that its reader asked for, which it takes no part in steps for.
  void BeginWeights(base::FinishReason reason) { ending_ = reason; }
  const std::optional<base::FinishReason>& ending() const { return ending_; }
  bool wants_weights() const;
  // Tells the reader the next piece, unless its mailbox is full and it matters; false when nothing was told.
  bool TellWeights(bool even_if_full);
  bool told_weights() const { return told_layers_ == context_.engine->model().layers; }

  // Returns what the reader is to be told last. The sequence must still be in the engine.
  Finished Finish(base::FinishReason reason);

  // For the log; without the ending.
  RequestSummary Summary() const;

 private:
  const base::SequenceSpec& spec() const { return *queued_->request.spec; }
  std::optional<base::FinishReason> OnToken(base::SampledToken token, bool last_step, base::TimePoint now);
  void CountToken(const base::SampledToken& token, base::TimePoint now);
  void CountForgotten(const std::vector<base::ForgetEvent>& forgotten);
  std::optional<base::FinishReason> EndAt(base::TokenId id, bool last_step) const;
  base::MemoryStats StatsAtEnd() const;
  base::Duration DecodeDuration() const;
  double TokensPerSecond() const;

  const std::unique_ptr<QueuedRequest> queued_;
  const base::SequenceId sequence_;
  const RunningContext context_;
  OutputText output_;
  const base::TimePoint started_;

  const uint32_t cached_;  // tokens of the prompt that need not be read
  uint32_t read_;          // or cached
  uint64_t last_read_step_;
  uint32_t generated_ = 0;
  uint32_t live_;
  uint32_t forgotten_ = 0;
  base::TimePoint first_token_, last_token_;
  PauseBudget pauses_;
  std::optional<base::FinishReason> ending_;
  uint32_t told_layers_ = 0;  // whose token weights the reader has been told
  base::Position told_positions_ = 0;  // of the next layer
  std::string matched_stop_;
  std::string answer_;  // with keep_answer
};

}  // namespace ebbinghaus::scheduler
