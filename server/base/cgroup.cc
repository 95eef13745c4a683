#include "server/base/cgroup.h"

#include <fstream>

namespace ebbinghaus::base {
namespace {

void AddLevels(const std::string& mount, std::string path, std::vector<std::string>& folders) {
  while (true) {
    folders.push_back(mount + path);
    if (path.empty() || path == "/") return;
    path.erase(path.rfind('/'));
  }
}

}  // namespace

std::vector<std::string> CgroupFolders(const std::string& controller, const std::string& root) {
  const std::string mount = root + "/sys/fs/cgroup";
  std::vector<std::string> folders;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:path
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos || second + 1 >= line.size() || line[second + 1] != '/') continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {  // version 2
      AddLevels(mount, path, folders);
    } else if (("," + controllers + ",").find("," + controller + ",") != line.npos) {
      AddLevels(mount + "/" + controller, path, folders);
      if (controllers != controller) AddLevels(mount + "/" + controllers, path, folders);
    }
  }
  return folders;
}

}  // namespace ebbinghaus::base
