#include "server/cpu_count.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

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

// The tightest quota from `path` below `mount` up to `mount` itself. Inside a container the path is often that
// of the host and does not exist; the mount's own limits then are the container's.
double TightestQuota(const std::string& mount, std::string path) {
  double tightest = 0;
  while (true) {
    double quota = ReadQuota(mount + path);
    if (quota > 0 && (tightest == 0 || quota < tightest)) tightest = quota;
    if (path.empty() || path == "/") return tightest;
    path.erase(path.rfind('/'));
  }
}

}  // namespace

double CgroupCpuQuota(const std::string& root) {
  double tightest = 0;
  auto consider = [&tightest](double quota) {
    if (quota > 0 && (tightest == 0 || quota < tightest)) tightest = quota;
  };
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    size_t first = line.find(':');
    size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos || second + 1 >= line.size() || line[second + 1] != '/') continue;
    std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    if (controllers == ",,") {
      consider(TightestQuota(root + "/sys/fs/cgroup", path));
    } else if (controllers.find(",cpu,") != controllers.npos) {
      consider(TightestQuota(root + "/sys/fs/cgroup/cpu", path));
      consider(TightestQuota(root + "/sys/fs/cgroup/cpu,cpuacct", path));
    }
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
