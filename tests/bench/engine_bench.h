// The whole engine's rows.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/bench/options.h"
#include "tests/bench/probe.h"
#include "tests/bench/report.h"
#include "tests/bench/workload.h"

namespace ebbinghaus::bench {

// The engine of one weights form and K/V form. Errors: InvalidArgument for forms that there are not, and those of Load.
absl::StatusOr<std::unique_ptr<BenchEngine>> LoadEngine(const Options& options, const std::string& weights,
                                                        const std::string& kv);

// A decoding row of a run: `step_seconds` each, `probe` in GB/s.
Row DecodeRow(const BenchEngine& engine, const DecodeRun& run, double step_seconds, double probe);

// All rows that the options name. Those that do not fit the model's context or this machine's memory are named and left out.
absl::Status RunEngineBench(const Options& options, BandwidthProbe& probe, Report& report);

// One long generation in sparse_attention (preset tight) from a short prompt, baseline beside it for as long as asked:
// a row for each 1,000 tokens.
absl::Status RunLongBench(const Options& options, BandwidthProbe& probe, Report& report);

}  // namespace ebbinghaus::bench
