#include "tests/bench/workload.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <fstream>
#include <random>
#include <utility>

#include <c10/core/InferenceMode.h>

#include "absl/strings/str_cat.h"
#include "server/base/host_memory.h"
#include "server/base/status_macros.h"
#include "server/engine/load_decoder.h"
#include "server/model/packed_decoder.h"

namespace ebbinghaus::bench {
namespace {

uint64_t StreamedBytes(const model::Decoder& decoder) {
  const auto* packed = dynamic_cast<const model::PackedDecoder*>(&decoder);
  if (packed == nullptr || decoder.config().tied_embeddings) return decoder.weight_bytes();
  return decoder.weight_bytes() - packed->weights().embedding.bytes();  // of which a step reads a few rows only
}

uint64_t AvailableBytes() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  uint64_t kibibytes = 0;
  while (file >> key >> kibibytes) {
    if (key == "MemAvailable:") return kibibytes * 1024;
    std::getline(file, unit);
  }
  return UINT64_MAX;
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

absl::StatusOr<std::unique_ptr<BenchEngine>> BenchEngine::Load(const model::Checkpoint& checkpoint,
                                                               engine::EngineOptions options) {
  const c10::InferenceMode inference;
  options.kv_memory_bytes = uint64_t{1} << 40;  // never the limit here: pages are made when first needed
  options.memory_limit_bytes = uint64_t{1} << 42;
  try {
    auto bench = std::unique_ptr<BenchEngine>(new BenchEngine);
    EBB_ASSIGN_OR_RETURN(engine::LoadedDecoder loaded, engine::LoadDecoder(checkpoint, options));
    bench->streamed_bytes_ = StreamedBytes(*loaded.decoder);
    auto filling = std::make_unique<FillingDecoder>(std::move(loaded.decoder));
    bench->decoder_ = filling.get();
    loaded.decoder = std::move(filling);
    EBB_ASSIGN_OR_RETURN(bench->engine_, engine::MakeEngine(std::move(loaded), options));
    return bench;
  } catch (const std::exception& error) {  // libtorch's, as in MakeEngine
    return absl::InternalError(absl::StrCat("loading the weights failed: ", error.what()));
  }
}

bool BenchEngine::CanHold(uint64_t kv_bytes) const {
  const uint64_t limit = base::MemoryLimitBytes(), resident = ResidentBytes();
  uint64_t room = AvailableBytes();
  if (limit > 0) room = std::min(room, limit > resident ? limit - resident : 0);
  return kv_bytes <= most_kv_bytes_ + room / 10 * 9;
}

absl::StatusOr<base::SequenceId> BenchEngine::Add(base::GenerationMode mode, const base::MemoryParameters& memory,
                                                  uint32_t prompt_tokens, uint32_t new_tokens) {
  if (prompt_tokens + new_tokens > model().context_tokens) {
    return absl::OutOfRangeError(absl::StrCat("a prompt of ", prompt_tokens, " and ", new_tokens,
                                              " new tokens are more than the model's context of ", model().context_tokens));
  }
  std::mt19937 random(prompt_tokens);
  base::SequenceSpec spec;
  spec.mode = mode;
  spec.memory = memory;
  spec.sampling.temperature = 0;
  spec.max_new_tokens = new_tokens;
  for (uint32_t i = 0; i < prompt_tokens; ++i) spec.prompt.push_back(random() % model().vocabulary_size);
  return engine_->Add(std::move(spec));
}

absl::Status BenchEngine::Read(base::SequenceId sequence, uint32_t tokens, bool really) {
  decoder_->set_filling(!really);
  const absl::Status status = Step({{sequence, tokens}});
  decoder_->set_filling(false);
  return status;
}

absl::Status BenchEngine::Step(const std::vector<base::StepItem>& plan) {
  for (const base::StepOutcome& outcome : engine_->Step(plan)) EBB_RETURN_IF_ERROR(outcome.status);
  most_kv_bytes_ = std::max(most_kv_bytes_, engine_->kv_used_bytes());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DecodeRun>> DecodeRun::Open(BenchEngine& engine, const Workload& workload) {
  auto run = std::unique_ptr<DecodeRun>(new DecodeRun(engine));
  for (uint32_t i = 0; i < workload.batch; ++i) {
    EBB_ASSIGN_OR_RETURN(const base::SequenceId id,
                         engine.Add(workload.mode, workload.memory, workload.context, workload.new_tokens + kWarmUpSteps));
    run->sequences_.push_back(id);
    run->plan_.push_back({id, 0});
    EBB_RETURN_IF_ERROR(engine.Read(id, workload.context, /*really=*/false));
    // By itself, so that a batch that forgets is never there in full.
    EBB_RETURN_IF_ERROR(engine.Step({{id, 0}}));
  }
  for (uint32_t i = 1; i < kWarmUpSteps; ++i) EBB_RETURN_IF_ERROR(run->Step().status());
  return run;
}

DecodeRun::~DecodeRun() {
  for (const base::SequenceId id : sequences_) engine_.engine().Remove(id);
}

absl::StatusOr<double> DecodeRun::Step() {
  const auto start = std::chrono::steady_clock::now();
  EBB_RETURN_IF_ERROR(engine_.Step(plan_));
  return SecondsSince(start);
}

uint64_t DecodeRun::live_kv_bytes() const {
  const uint64_t token_bytes = engine_.model().kv_bytes_per_token / engine_.model().layers;
  uint64_t bytes = 0;
  for (const base::SequenceId id : sequences_) {
    for (const base::LayerMemory& layer : engine_.engine().Stats(id).layers) bytes += layer.live_tokens * token_bytes;
  }
  return bytes;
}

double DecodeRun::live_fraction() const {
  double live = 0, all = 0;
  for (const base::SequenceId id : sequences_) {
    const base::MemoryStats stats = engine_.engine().Stats(id);
    for (const base::LayerMemory& layer : stats.layers) live += layer.live_tokens;
    all += static_cast<double>(stats.total_tokens) * static_cast<double>(stats.layers.size());
  }
  return live / all;
}

namespace {

// Reads chunks of the sequence's prompt; those not in the sample are filled in.
absl::StatusOr<double> ReadChunks(BenchEngine& engine, base::SequenceId id, const PromptPlan& plan) {
  const bool sampled = plan.sampled_chunks >= 2 && plan.tokens > plan.sampled_chunks * plan.chunk_tokens;
  const uint32_t chunks = sampled ? plan.sampled_chunks : (plan.tokens + plan.chunk_tokens - 1) / plan.chunk_tokens;
  uint32_t read = 0;
  double seconds = 0;
  for (uint32_t i = 0; i < chunks; ++i) {
    uint32_t first = read;
    if (sampled) first = static_cast<uint32_t>(uint64_t{plan.tokens - plan.chunk_tokens} * i / (chunks - 1));
    if (first > read) EBB_RETURN_IF_ERROR(engine.Read(id, first - read, /*really=*/false));
    const uint32_t count = std::min(plan.chunk_tokens, plan.tokens - first);
    const auto start = std::chrono::steady_clock::now();
    EBB_RETURN_IF_ERROR(engine.Read(id, count, /*really=*/true));
    const bool end = i == 0 || i + 1 == chunks;
    seconds += SecondsSince(start) * (sampled && end ? 0.5 : 1.0);  // the trapezoidal rule
    read = first + count;
  }
  if (!sampled) return seconds;
  return seconds / (chunks - 1) * plan.tokens / plan.chunk_tokens;
}

}  // namespace

absl::StatusOr<double> PromptSeconds(BenchEngine& engine, base::GenerationMode mode, const base::MemoryParameters& memory,
                                     const PromptPlan& plan) {
  EBB_ASSIGN_OR_RETURN(const base::SequenceId id, engine.Add(mode, memory, plan.tokens, 1));
  absl::StatusOr<double> seconds = ReadChunks(engine, id, plan);
  engine.engine().Remove(id);
  return seconds;
}

}  // namespace ebbinghaus::bench
