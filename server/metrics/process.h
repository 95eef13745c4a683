// What the operating system knows of this process.
#pragma once

#include <cstdint>
#include <optional>

namespace ebbinghaus::metrics {

struct ProcessFacts {
  double cpu_seconds = 0;  // user and system
  double start_time_seconds = 0;  // Unix time
  uint64_t resident_bytes = 0;
  uint64_t virtual_bytes = 0;
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;
  uint64_t threads = 0;
};

// Nothing where /proc cannot be read.
std::optional<ProcessFacts> ReadProcessFacts();

}  // namespace ebbinghaus::metrics
