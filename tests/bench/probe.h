// The streaming bandwidth that rows are compared with: a plain read of memory, in 2 MiB pages where the system gives them.
#pragma once

#include <cstddef>
#include <vector>

#include "server/kernels/huge_buffer.h"
#include "server/kernels/thread_team.h"

namespace ebbinghaus::bench {

class BandwidthProbe {
 public:
  explicit BandwidthProbe(int threads, size_t bytes = size_t{512} << 20);

  // One pass over the buffer: bytes per second / 1e9.
  double Measure();

 private:
  kernels::ThreadTeam team_;
  kernels::HugeBuffer buffer_;
};

double Median(std::vector<double> values);  // 0 of none

}  // namespace ebbinghaus::bench
