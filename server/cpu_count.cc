#include "server/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "server/base/cgroup.h"

namespace ebbinghaus {
namespace {

// quota / period, or 0 for none. v2 has both in one file ("max 100000"), v1 one in each.
double ReadQuota(const std::string& folder) {
  double quota = 0, period = 0;
  if (std::ifstream file(folder + "/cpu.max"); file >> quota >> period) return period > 0 ? quota / period : 0;
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"), period_file(folder + "/cpu.cfs_period_us");
  if (quota_file >> quota && period_file >> period && quota > 0 && period > 0) return quota / period;
  return 0;
}

}  // namespace

double CgroupCpuQuota(const std::string& root) {
  double tightest = 0;
  for (const std::string& folder : base::CgroupFolders("cpu", root)) {
    const double quota = ReadQuota(folder);
    if (quota > 0 && (tightest == 0 || quota < tightest)) tightest = quota;
  }
  return tightest;
}

uint32_t UsableCpus(const std::string& root) {
  cpu_set_t set;
  uint32_t allowed = std::max(1u, std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof set, &set) == 0) allowed = static_cast<uint32_t>(CPU_COUNT(&set));
  double quota = CgroupCpuQuota(root);
  if (quota > 0) allowed = std::min(allowed, static_cast<uint32_t>(std::max(1.0, quota)));
  return std::max(1u, allowed);
}

}  // namespace ebbinghaus
