// Where the limits of this process's control groups are written.
#pragma once

#include <string>
#include <vector>

namespace ebbinghaus::base {

// Folders that may hold limits of `controller` ("cpu", "memory") on this process, of both versions of cgroups: its own
// group's and those of every level above, up to the mount. Inside a container the group's path is often that of the host
// and does not exist; the mount's own limits then are the container's, so it is always among them. Limits of all
// levels hold at once. Folders need not exist.
// `root` is prepended to /proc and /sys; tests hand in a folder of their own.
std::vector<std::string> CgroupFolders(const std::string& controller, const std::string& root = "");

}  // namespace ebbinghaus::base
