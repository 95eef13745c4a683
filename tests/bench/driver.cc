#include "tests/bench/driver.h"

#include <chrono>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "server/base/status_macros.h"
#include "tests/bench/engine_bench.h"
#include "tests/bench/workload.h"

namespace ebbinghaus::bench {
namespace {

using nlohmann::json;

class Driver {
 public:
  Driver(const Options& options, BenchEngine& engine, BandwidthProbe& probe)
      : options_(options), engine_(engine), probe_(probe) {}

  absl::StatusOr<json> Obey(const std::string& line) {
    std::istringstream in(line);
    std::string order;
    in >> order;
    uint32_t number = 0;
    if (order == "prefill" && in >> number && number > 0) return Prefill(number);
    if (order == "step" && in >> number && run_) return Step(number);
    if (order == "open") return Open(in);
    if (order == "close") {
      run_.reset();
      return json::object();
    }
    return absl::InvalidArgumentError("no order of that kind now: " + line);
  }

 private:
  absl::StatusOr<json> Prefill(uint32_t tokens) {
    const PromptPlan plan{.tokens = tokens, .chunk_tokens = options_.prefill_chunk};
    EBB_ASSIGN_OR_RETURN(const double seconds, PromptSeconds(engine_, base::GenerationMode::kBaseline, {}, plan));
    return json{{"seconds", seconds}};
  }

  absl::StatusOr<json> Open(std::istream& in) {
    run_.reset();
    Workload work;
    if (!(in >> work.batch >> work.context >> work.new_tokens)) return absl::InvalidArgumentError("open BATCH CONTEXT STEPS");
    if (uint32_t live = 0; in >> live) {
      work.mode = base::GenerationMode::kSparseAttention;
      work.memory.scope = base::ForgetScope::kPerLayer;
      work.memory.max_live_tokens = live;
    }
    const auto start = std::chrono::steady_clock::now();
    EBB_ASSIGN_OR_RETURN(run_, DecodeRun::Open(engine_, work));
    return json{{"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()}};
  }

  absl::StatusOr<json> Step(uint32_t count) {
    std::vector<double> steps;
    for (uint32_t i = 0; i < count; ++i) {
      EBB_ASSIGN_OR_RETURN(const double seconds, run_->Step());
      steps.push_back(seconds);
    }
    return json{{"step_seconds", steps}, {"probe_gb_per_second", probe_.Measure()}};
  }

  const Options& options_;
  BenchEngine& engine_;
  BandwidthProbe& probe_;
  std::unique_ptr<DecodeRun> run_;
};

}  // namespace

absl::Status RunDriver(const Options& options, BandwidthProbe& probe) {
  EBB_ASSIGN_OR_RETURN(const std::unique_ptr<BenchEngine> engine,
                       LoadEngine(options, options.weights.front(), options.kv.front()));
  Driver driver(options, *engine, probe);
  std::string line;
  std::cout << json::object() << std::endl;  // loaded
  while (std::getline(std::cin, line)) {
    const absl::StatusOr<json> answer = driver.Obey(line);
    std::cout << (answer.ok() ? *answer : json{{"error", answer.status().ToString()}}) << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace ebbinghaus::bench
