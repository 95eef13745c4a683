// The engine under measurement and what it is made to do: sequences of one mode, filled and stepped together.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/engine.h"
#include "server/engine/engine.h"
#include "server/model/checkpoint.h"
#include "tests/bench/filling_decoder.h"

namespace ebbinghaus::bench {

// The engine that the server would use, around a decoder that can skip reading prompts. One thread.
class BenchEngine {
 public:
  // K/V memory is not bounded here: see CanHold. Errors: those of LoadDecoder and MakeEngine.
  static absl::StatusOr<std::unique_ptr<BenchEngine>> Load(const model::Checkpoint& checkpoint, engine::EngineOptions options);

  base::Engine& engine() { return *engine_; }
  const base::ModelInfo& model() const { return engine_->model(); }
  // Weights that a decode step reads, all of them once.
  uint64_t streamed_bytes() const { return streamed_bytes_; }

  // Whether the system has room for so many bytes of K/V.
  bool CanHold(uint64_t kv_bytes) const;

  // Adds a sequence whose prompt of random ids is not read yet, which takes the most likely token and never ends.
  absl::StatusOr<base::SequenceId> Add(base::GenerationMode mode, const base::MemoryParameters& memory,
                                       uint32_t prompt_tokens, uint32_t new_tokens);
  // Lets the prompt's next tokens be read, really or not.
  absl::Status Read(base::SequenceId sequence, uint32_t tokens, bool really);
  // One engine step; every item must succeed.
  absl::Status Step(const std::vector<base::StepItem>& plan);

 private:
  BenchEngine() = default;

  FillingDecoder* decoder_ = nullptr;  // engine_'s
  std::unique_ptr<base::Engine> engine_;
  uint64_t streamed_bytes_ = 0;
  uint64_t most_kv_bytes_ = 0;  // that were in use at a time: the pool keeps them
};

struct Workload {
  base::GenerationMode mode = base::GenerationMode::kBaseline;
  base::MemoryParameters memory;
  uint32_t batch = 1;
  uint32_t context = 64;     // prompt tokens of each sequence
  uint32_t new_tokens = 64;  // that will be decoded at most
};

// A batch of sequences that decode. Removes them in the end.
class DecodeRun {
 public:
  // Fills the prompts, then takes a few steps, in the first of which forgetting brings the live set down to its budget.
  static absl::StatusOr<std::unique_ptr<DecodeRun>> Open(BenchEngine& engine, const Workload& workload);
  DecodeRun(const DecodeRun&) = delete;
  DecodeRun& operator=(const DecodeRun&) = delete;
  ~DecodeRun();

  // One token for every sequence: seconds.
  absl::StatusOr<double> Step();

  // What a step reads: K/V of every live token. And live tokens beside all, 0 to 1.
  uint64_t live_kv_bytes() const;
  double live_fraction() const;
  uint32_t batch() const { return static_cast<uint32_t>(sequences_.size()); }

  static constexpr uint32_t kWarmUpSteps = 3;

 private:
  explicit DecodeRun(BenchEngine& engine) : engine_(engine) {}

  BenchEngine& engine_;
  std::vector<base::SequenceId> sequences_;
  std::vector<base::StepItem> plan_;
};

struct PromptPlan {
  uint32_t tokens = 512;
  uint32_t chunk_tokens = 512;
  // Of a long prompt only so many chunks, evenly spread, are really read, and the sum is taken from them (a chunk's time
  // grows with what is before it, nearly in a straight line). 0: all are read.
  uint32_t sampled_chunks = 0;
};
// Seconds that reading a prompt takes.
absl::StatusOr<double> PromptSeconds(BenchEngine& engine, base::GenerationMode mode, const base::MemoryParameters& memory,
                                     const PromptPlan& plan);

uint64_t ResidentBytes();  // of this process

}  // namespace ebbinghaus::bench
