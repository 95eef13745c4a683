// How much memory this process may use.
#pragma once

#include <cstdint>
#include <string>

namespace ebbinghaus::base {

// The smaller of the machine's memory and the cgroup's limit (v1 and v2, every level up to the root), in bytes; 0 when
// neither can be read. `root` is prepended to /proc and /sys; tests hand in a folder of their own.
uint64_t MemoryLimitBytes(const std::string& root = "");

}  // namespace ebbinghaus::base
