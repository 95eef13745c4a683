// How many threads this process can keep busy.
#pragma once

#include <cstdint>
#include <string>

namespace ebbinghaus {

// The smaller of the CPUs this thread may run on and the cgroup's CPU quota (v1 and v2, every level up to the
// root), rounded down; at least 1. Threads beyond the quota spin against each other and cost a factor of ten.
// `root` is prepended to /proc and /sys; tests hand in a folder of their own.
uint32_t UsableCpus(const std::string& root = "");

// The quota's part of it: CPUs as a real number, or 0 when there is none.
double CgroupCpuQuota(const std::string& root);

}  // namespace ebbinghaus
