// One long generation. Kept apart from the rows of engine_bench.cc: here a sequence lives for as long as it takes.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/base/status_macros.h"
#include "server/memory/parameters.h"
#include "tests/bench/engine_bench.h"

namespace ebbinghaus::bench {
namespace {

constexpr uint32_t kPromptTokens = 64, kPartTokens = 1000;
// A part's time is the median of its pieces' means: what forgetting costs now and then is in it, a neighbour's burst is not.
constexpr uint32_t kPieceTokens = 100;

struct Generation {
  base::GenerationMode mode;
  uint32_t tokens = 0;
  std::unique_ptr<DecodeRun> run;
};

// Seconds per token of the next `count` tokens.
absl::StatusOr<double> RunPart(DecodeRun& run, uint32_t count) {
  std::vector<double> pieces;
  for (uint32_t done = 0; done < count; done += kPieceTokens) {
    const uint32_t steps = std::min(kPieceTokens, count - done);
    double seconds = 0;
    for (uint32_t i = 0; i < steps; ++i) {
      EBB_ASSIGN_OR_RETURN(const double step, run.Step());
      seconds += step;
    }
    pieces.push_back(seconds / steps);
  }
  return Median(std::move(pieces));
}

}  // namespace

absl::Status RunLongBench(const Options& options, BandwidthProbe& probe, Report& report) {
  const std::string& weights = options.weights.front();
  const std::string& kv = options.kv.front();
  EBB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchEngine> engine, LoadEngine(options, weights, kv));
  Generation generations[] = {{base::GenerationMode::kSparseAttention, options.long_tokens, nullptr},
                              {base::GenerationMode::kBaseline, std::min(options.long_baseline, options.long_tokens), nullptr}};
  for (Generation& generation : generations) {
    if (generation.tokens == 0) continue;
    const Workload work{.mode = generation.mode,
                        .memory = memory::PresetParameters(memory::Preset::kTight),
                        .batch = 1,
                        .context = kPromptTokens,
                        .new_tokens = generation.tokens};
    EBB_ASSIGN_OR_RETURN(generation.run, DecodeRun::Open(*engine, work));
  }
  for (uint32_t done = 0; done < options.long_tokens; done += kPartTokens) {
    for (Generation& generation : generations) {
      if (done >= generation.tokens) continue;
      const uint32_t count = std::min(kPartTokens, generation.tokens - done);
      EBB_ASSIGN_OR_RETURN(const double seconds, RunPart(*generation.run, count));
      Row row = DecodeRow(*engine, *generation.run, seconds, probe.Measure());
      row.weights = weights;
      row.kv = kv;
      row.mode = std::string(base::Name(generation.mode));
      row.context = kPromptTokens + done + count;
      row.live_fraction = generation.run->live_fraction();
      report.Add(row);
    }
    std::printf("        resident after %u tokens: %.1f MB\n", std::min(done + kPartTokens, options.long_tokens),
                static_cast<double>(ResidentBytes()) / 1e6);
  }
  return absl::OkStatus();
}

}  // namespace ebbinghaus::bench
