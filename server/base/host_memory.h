// How much memory this process may use.
#pragma once

#include <cstdint>

namespace ebbinghaus::base {

// The smaller of the machine's memory and the cgroup's limit (v2 or v1), in bytes; 0 when neither can be read.
uint64_t MemoryLimitBytes();

}  // namespace ebbinghaus::base
