#include "server/base/host_memory.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "server/base/cgroup.h"

namespace ebbinghaus::base {
namespace {

// The tightest of all levels, or 0 for none. "max", a missing file and version 1's huge "no limit" number all mean none.
uint64_t CgroupLimit(const std::string& root) {
  uint64_t tightest = 0;
  for (const std::string& folder : CgroupFolders("memory", root)) {
    for (const char* name : {"/memory.max", "/memory.limit_in_bytes"}) {
      std::ifstream file(folder + name);
      uint64_t bytes = 0;
      if (file >> bytes && bytes < (1ull << 60) && (tightest == 0 || bytes < tightest)) tightest = bytes;
    }
  }
  return tightest;
}

uint64_t MachineMemory(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string key;
  uint64_t kibibytes = 0;
  while (file >> key) {
    if (key == "MemTotal:" && file >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace

uint64_t MemoryLimitBytes(const std::string& root) {
  const uint64_t machine = MachineMemory(root), cgroup = CgroupLimit(root);
  return cgroup == 0 ? machine : machine == 0 ? cgroup : std::min(machine, cgroup);
}

}  // namespace ebbinghaus::base
