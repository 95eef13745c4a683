#include "server/metrics/process.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>

namespace ebbinghaus::metrics {
namespace {

std::optional<std::string> ReadAll(const char* path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// "btime" of /proc/stat: when the machine booted, Unix time.
double BootTimeSeconds() {
  std::ifstream file("/proc/stat");
  std::string key;
  double value = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    if (words >> key >> value && key == "btime") return value;
  }
  return 0;
}

uint64_t CountOpenFds() {
  std::error_code error;
  uint64_t entries = 0;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end; it.increment(error)) {
    ++entries;
  }
  return entries > 0 ? entries - 1 : 0;  // one of them reads the directory
}

}  // namespace

std::optional<ProcessFacts> ReadProcessFacts() {
  const std::optional<std::string> stat = ReadAll("/proc/self/stat");
  if (!stat) return std::nullopt;
  // The second field is the program's name in parentheses, and may hold anything.
  const size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(stat->substr(name_end + 1));
  // proc(5), from field 3 on: state is 3, utime 14, stime 15, num_threads 20, starttime 22, vsize 23, rss 24.
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0, system = 0, start = 0;
  ProcessFacts facts;
  fields >> user >> system;
  for (int field = 16; field < 20; ++field) fields >> skipped;
  uint64_t resident_pages = 0;
  fields >> facts.threads >> skipped >> start >> facts.virtual_bytes >> resident_pages;
  if (!fields) return std::nullopt;
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  static const double boot_time = BootTimeSeconds();  // does not change while we live
  facts.cpu_seconds = (user + system) / ticks;
  facts.start_time_seconds = boot_time + start / ticks;
  facts.resident_bytes = resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  facts.open_fds = CountOpenFds();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.max_fds = limit.rlim_cur;
  return facts;
}

}  // namespace ebbinghaus::metrics
