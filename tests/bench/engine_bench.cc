#include "tests/bench/engine_bench.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/memory/parameters.h"
#include "tests/bench/random_checkpoint.h"

namespace ebbinghaus::bench {
namespace {

using base::GenerationMode;
using model::TensorType;

constexpr double kTurnSeconds = 0.15;  // of one row in one round, about
constexpr uint32_t kFewestSteps = 3, kMostSteps = 12;
constexpr uint32_t kSampledFrom = 4096, kSampledChunks = 3;  // prompts, see PromptPlan

// What is stored and what the engine is asked to make of it.
struct RandomForm {
  TensorType type, embedding;
  const char* choice;
};
const std::map<std::string, RandomForm>& RandomForms() {
  static const auto* forms = new std::map<std::string, RandomForm>{
      {"bf16", {TensorType::kBf16, TensorType::kBf16, "auto"}},
      {"int8", {TensorType::kBf16, TensorType::kBf16, "int8"}},
      {"q8_0", {TensorType::kQ8_0, TensorType::kQ8_0, "auto"}},
      {"q4_0", {TensorType::kQ4_0, TensorType::kQ8_0, "auto"}},  // as llama.cpp quantizes a model of this size
      {"q4_1", {TensorType::kQ4_1, TensorType::kQ8_0, "auto"}},
  };
  return *forms;
}

// One row in the making.
struct Variant {
  GenerationMode mode = GenerationMode::kBaseline;
  double live = 1;  // fraction that is forced; 1: nothing is
  std::unique_ptr<DecodeRun> run;
  uint32_t steps = 0;          // a turn
  std::vector<double> rounds;  // step seconds
};

base::MemoryParameters Forgetting(double live, uint32_t context) {
  base::MemoryParameters memory;
  memory.scope = base::ForgetScope::kPerLayer;
  const uint32_t least = memory.sink_tokens + memory.recent_tokens + 1;
  memory.max_live_tokens = std::max(least, static_cast<uint32_t>(live * context));
  return memory;
}

// Rows of the same load stand in one group, so that their rounds interleave.
struct Group {
  Load load;
  std::vector<Variant> variants;
};

std::vector<Group> PlanGroups(const Options& options) {
  std::vector<Group> groups;
  const auto add = [&](const Load& load, GenerationMode mode, double live) {
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.load == load; });
    if (group == groups.end()) group = groups.insert(groups.end(), {load, {}});
    for (const Variant& variant : group->variants) {
      if (variant.mode == mode && variant.live == live) return;
    }
    group->variants.push_back({.mode = mode, .live = live, .run = nullptr, .rounds = {}});
  };
  for (const uint32_t context : options.contexts) {
    for (const GenerationMode mode : options.modes) add({1, context}, mode, 1);
  }
  for (const Load& load : options.batches) {
    for (const GenerationMode mode : options.modes) {
      if (mode != GenerationMode::kSoftDelete) add(load, mode, 1);  // weighing is seen in one stream
    }
  }
  if (options.live.empty()) return groups;
  for (const Load& load : options.live_at) {
    add(load, GenerationMode::kBaseline, 1);  // what they are compared with
    for (const double live : options.live) add(load, GenerationMode::kSparseAttention, live);
  }
  return groups;
}

uint64_t KvBytes(const BenchEngine& engine, const Group& group) {
  const uint64_t full = engine.model().kv_bytes_per_token * group.load.context;
  double bytes = static_cast<double>(full);  // one that is yet to forget
  for (const Variant& variant : group.variants) bytes += variant.live * static_cast<double>(full) * group.load.batch;
  return static_cast<uint64_t>(bytes);
}

class EngineBench {
 public:
  EngineBench(const Options& options, std::string weights, std::string kv, BenchEngine& engine, BandwidthProbe& probe,
              Report& report)
      : options_(options), weights_(std::move(weights)), kv_(std::move(kv)), engine_(engine), probe_(probe), report_(report) {}

  absl::Status Run() {
    for (Group& group : PlanGroups(options_)) EBB_RETURN_IF_ERROR(Decode(group));
    for (const uint32_t tokens : options_.prefill) EBB_RETURN_IF_ERROR(Prefill(tokens));
    return absl::OkStatus();
  }

 private:
  void LeaveOut(const std::string& what, const std::string& why) const {
    std::fprintf(stderr, "%s/%s %s left out: %s\n", weights_.c_str(), kv_.c_str(), what.c_str(), why.c_str());
  }

  void Report(Row row, GenerationMode mode, double live, const Load& load) const {
    row.weights = weights_;
    row.kv = kv_;
    row.mode = std::string(base::Name(mode));
    row.live_fraction = live;  // as asked for, so that rows can be found again
    row.batch = load.batch;
    row.context = load.context;
    report_.Add(row);
  }

  absl::Status Decode(Group& group) {
    const std::string name = absl::StrCat(group.load.batch, "x", group.load.context);
    const uint32_t new_tokens = 2 + options_.rounds * kMostSteps;
    if (group.load.context + new_tokens + DecodeRun::kWarmUpSteps > engine_.model().context_tokens) {
      LeaveOut(name, "longer than the model's context");
      return absl::OkStatus();
    }
    if (const uint64_t bytes = KvBytes(engine_, group); !engine_.CanHold(bytes)) {
      LeaveOut(name, absl::StrCat("there is no memory for ", bytes >> 20, " MiB of K/V"));
      return absl::OkStatus();
    }
    for (Variant& variant : group.variants) {
      Workload work{.mode = variant.mode, .memory = {}, .batch = group.load.batch, .context = group.load.context,
                    .new_tokens = new_tokens};
      if (variant.live < 1) work.memory = Forgetting(variant.live, group.load.context);
      EBB_ASSIGN_OR_RETURN(variant.run, DecodeRun::Open(engine_, work));
      EBB_ASSIGN_OR_RETURN(const double seconds, variant.run->Step());
      variant.steps = static_cast<uint32_t>(std::clamp(kTurnSeconds / seconds, double{kFewestSteps}, double{kMostSteps}));
    }
    std::vector<double> bandwidth;
    for (uint32_t round = 0; round < options_.rounds; ++round) {
      for (Variant& variant : group.variants) {
        EBB_RETURN_IF_ERROR(Turn(variant));
        bandwidth.push_back(probe_.Measure());
      }
    }
    for (Variant& variant : group.variants) {
      Report(DecodeRow(engine_, *variant.run, Median(variant.rounds), Median(bandwidth)), variant.mode, variant.live,
             group.load);
    }
    for (Variant& variant : group.variants) variant.run.reset();
    return absl::OkStatus();
  }

  static absl::Status Turn(Variant& variant) {
    std::vector<double> steps;
    for (uint32_t i = 0; i < variant.steps; ++i) {
      EBB_ASSIGN_OR_RETURN(const double seconds, variant.run->Step());
      steps.push_back(seconds);
    }
    variant.rounds.push_back(Median(std::move(steps)));
    return absl::OkStatus();
  }

  // baseline, and where sparse_attention is among the modes, all rows of the prompt observed, as presets chat and tight do.
  absl::Status Prefill(uint32_t tokens) {
    if (tokens + 1 > engine_.model().context_tokens) {
      LeaveOut(absl::StrCat("prompt of ", tokens), "longer than the model's context");
      return absl::OkStatus();
    }
    const PromptPlan plan{.tokens = tokens,
                          .chunk_tokens = options_.prefill_chunk,
                          .sampled_chunks = tokens > kSampledFrom && !options_.whole_prompts ? kSampledChunks : 0};
    std::vector<GenerationMode> modes;
    for (const GenerationMode mode : {GenerationMode::kBaseline, GenerationMode::kSparseAttention}) {
      if (std::count(options_.modes.begin(), options_.modes.end(), mode) > 0) modes.push_back(mode);
    }
    std::vector<std::vector<double>> seconds(modes.size());
    std::vector<double> bandwidth;
    // Prompts of many passes need fewer rounds, and there is no time for more.
    const uint32_t share = tokens <= 2 * options_.prefill_chunk ? 1 : plan.sampled_chunks == 0 ? 3 : 5;
    const uint32_t rounds = (options_.rounds + share - 1) / share;
    for (uint32_t round = 0; round < rounds + 1; ++round) {
      if (round == 0 && tokens > options_.prefill_chunk) continue;  // the first warms up, once
      for (size_t i = 0; i < modes.size(); ++i) {
        base::MemoryParameters memory;
        memory.prompt_observation = base::PromptObservation::kAll;
        EBB_ASSIGN_OR_RETURN(const double time, PromptSeconds(engine_, modes[i], memory, plan));
        if (round > 0) seconds[i].push_back(time);
        bandwidth.push_back(probe_.Measure());
      }
    }
    for (size_t i = 0; i < modes.size(); ++i) {
      const double time = Median(seconds[i]);
      Row row;
      row.phase = "prefill";
      row.tokens_per_second = tokens / time;
      row.step_milliseconds = time * 1e3;
      row.probe_gb_per_second = Median(bandwidth);
      Report(row, modes[i], 1, {1, tokens});
    }
    return absl::OkStatus();
  }

  const Options& options_;
  const std::string weights_, kv_;
  BenchEngine& engine_;
  BandwidthProbe& probe_;
  bench::Report& report_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BenchEngine>> LoadEngine(const Options& options, const std::string& weights,
                                                        const std::string& kv) {
  engine::EngineOptions chosen;
  chosen.engine = options.engine;
  chosen.kernels = options.target;
  chosen.device = "cpu";
  chosen.threads = static_cast<int>(options.threads);
  chosen.weights = weights;
  chosen.kv = kv;
  std::unique_ptr<model::Checkpoint> checkpoint;
  if (!options.model.empty()) {
    EBB_ASSIGN_OR_RETURN(checkpoint, model::OpenCheckpoint(options.model));
  } else if (const auto found = RandomForms().find(weights); found != RandomForms().end()) {
    checkpoint = std::make_unique<RandomCheckpoint>(found->second.type, found->second.embedding);
    chosen.weights = found->second.choice;
  } else {
    return absl::InvalidArgumentError(absl::StrCat("--weights ", weights, ": there are no such random weights"));
  }
  EBB_ASSIGN_OR_RETURN(std::unique_ptr<BenchEngine> engine, BenchEngine::Load(*checkpoint, chosen));
  const base::ModelInfo& info = engine->model();
  std::fprintf(stderr, "%s: %s, %.1f MB of weights in %s, %llu bytes of %s K/V per token, engine %s, %u threads\n",
               weights.c_str(), info.name.c_str(), static_cast<double>(info.weight_bytes) / 1e6, info.weights.c_str(),
               static_cast<unsigned long long>(info.kv_bytes_per_token), info.kv.c_str(), info.engine.c_str(), options.threads);
  return engine;
}

Row DecodeRow(const BenchEngine& engine, const DecodeRun& run, double step_seconds, double probe) {
  const auto bytes = static_cast<double>(engine.streamed_bytes() + run.live_kv_bytes());
  Row row;
  row.phase = "decode";
  row.batch = run.batch();
  row.tokens_per_second = run.batch() / step_seconds;
  row.step_milliseconds = step_seconds * 1e3;
  row.probe_gb_per_second = probe;
  row.percent_of_probe = bytes / step_seconds / (probe * 1e9) * 100;
  return row;
}

absl::Status RunEngineBench(const Options& options, BandwidthProbe& probe, Report& report) {
  for (const std::string& weights : options.weights) {
    for (const std::string& kv : options.kv) {
      EBB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchEngine> engine, LoadEngine(options, weights, kv));
      EBB_RETURN_IF_ERROR(EngineBench(options, weights, kv, *engine, probe, report).Run());
    }
  }
  return absl::OkStatus();
}

}  // namespace ebbinghaus::bench
