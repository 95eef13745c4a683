// Rows of results: a table for people, JSON lines for programs.
#pragma once

#include <cstdint>
#include <fstream>
#include <optional>
#include <string>

#include "absl/status/status.h"

namespace ebbinghaus::bench {

struct Row {
  std::string weights, kv, mode, phase;  // phase: "decode" or "prefill"
  uint32_t batch = 1, context = 0;
  double live_fraction = 1;
  double tokens_per_second = 0, step_milliseconds = 0, probe_gb_per_second = 0;
  std::optional<double> percent_of_probe;  // of decode
};

class Report {
 public:
  // `json`: a file to write, or empty. Errors: InvalidArgument when it cannot be written.
  absl::Status Open(const std::string& json);

  // Prints the row at once, under a header the first time.
  void Add(const Row& row);

 private:
  std::ofstream json_;
  bool header_ = false;
};

}  // namespace ebbinghaus::bench
