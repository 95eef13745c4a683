#include "tests/bench/report.h"

#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace ebbinghaus::bench {
namespace {

double Round(double value, double unit) { return std::round(value / unit) * unit; }

}  // namespace

absl::Status Report::Open(const std::string& json) {
  if (json.empty()) return absl::OkStatus();
  json_.open(json);
  return json_ ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat("--json: cannot write ", json));
}

void Report::Add(const Row& row) {
  if (!header_) {
    std::printf("%-7s %-8s %-5s %-17s %5s %7s %6s %9s %9s %6s %8s\n", "phase", "weights", "kv", "mode", "batch", "context",
                "live", "tokens/s", "step ms", "probe", "of probe");
    header_ = true;
  }
  std::printf("%-7s %-8s %-5s %-17s %5u %7u %6.3f %9.1f %9.2f %6.1f", row.phase.c_str(), row.weights.c_str(), row.kv.c_str(),
              row.mode.c_str(), row.batch, row.context, row.live_fraction, row.tokens_per_second, row.step_milliseconds,
              row.probe_gb_per_second);
  if (row.percent_of_probe) {
    std::printf(" %7.1f%%\n", *row.percent_of_probe);
  } else {
    std::printf(" %8s\n", "-");
  }
  std::fflush(stdout);
  if (!json_.is_open()) return;
  nlohmann::ordered_json object = {{"weights", row.weights},
                                   {"kv", row.kv},
                                   {"mode", row.mode},
                                   {"phase", row.phase},
                                   {"batch", row.batch},
                                   {"context", row.context},
                                   {"live_fraction", row.live_fraction},
                                   {"tokens_per_second", Round(row.tokens_per_second, 0.01)},
                                   {"step_milliseconds", Round(row.step_milliseconds, 0.0001)},
                                   {"probe_gb_per_second", Round(row.probe_gb_per_second, 0.01)},
                                   {"percent_of_probe", nullptr}};
  if (row.percent_of_probe) object["percent_of_probe"] = Round(*row.percent_of_probe, 0.01);
  json_ << object.dump() << std::endl;  // at once: a bench is often cut short
}

}  // namespace ebbinghaus::bench
