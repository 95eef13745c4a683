#include "server/base/host_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace ebbinghaus::base {
namespace {

// "max", a missing file and v1's huge "no limit" number all mean none.
uint64_t CgroupLimit() {
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::ifstream file(path);
    uint64_t bytes = 0;
    if (file >> bytes && bytes < (1ull << 60)) return bytes;
  }
  return 0;
}

uint64_t MachineMemory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  uint64_t kibibytes = 0;
  while (file >> key) {
    if (key == "MemTotal:" && file >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace

uint64_t MemoryLimitBytes() {
  const uint64_t machine = MachineMemory(), cgroup = CgroupLimit();
  return cgroup == 0 ? machine : machine == 0 ? cgroup : std::min(machine, cgroup);
}

}  // namespace ebbinghaus::base
