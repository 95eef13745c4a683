#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "server/base/status_macros.h"
#include "server/cpu_count.h"
#include "tests/bench/driver.h"
#include "tests/bench/engine_bench.h"
#include "tests/bench/kernel_bench.h"
#include "tests/bench/options.h"
#include "tests/bench/probe.h"
#include "tests/bench/report.h"

namespace ebbinghaus::bench {
namespace {

std::string ProcessorName() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "unknown processor";
}

// What there is to know before believing a number.
void DescribeMachine(const Options& options, BandwidthProbe& probe) {
  double load[1] = {0};
  getloadavg(load, 1);
  std::vector<double> bandwidth;
  for (int i = 0; i < 5; ++i) bandwidth.push_back(probe.Measure());
  std::fprintf(stderr, "%s, %u threads, streaming read %.1f GB/s, load average %.2f\n", ProcessorName().c_str(), options.threads,
               Median(bandwidth), load[0]);
  if (load[0] > 0.5) std::fprintf(stderr, "this machine is not idle: do not trust the figures\n");
}

absl::Status Run(Options options) {
  if (options.threads == 0) options.threads = UsableCpus();
  Report report;
  EBB_RETURN_IF_ERROR(report.Open(options.json));
  BandwidthProbe probe(static_cast<int>(options.threads));
  DescribeMachine(options, probe);
  if (options.driver) return RunDriver(options, probe);
  if (options.long_tokens > 0) return RunLongBench(options, probe, report);
  if (!options.kernels) return RunEngineBench(options, probe, report);
  RunKernelBench(options, probe);
  return absl::OkStatus();
}

}  // namespace
}  // namespace ebbinghaus::bench

int main(int argc, char** argv) {
  using namespace ebbinghaus::bench;
  const absl::StatusOr<Options> options = ParseOptions(std::vector<std::string>(argv + 1, argv + argc));
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  if (options->help) {
    std::fputs(HelpText().c_str(), stdout);
    return 0;
  }
  const absl::Status status = Run(*options);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return 1;
}
