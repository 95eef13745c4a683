// What the two kinds of checkpoint share. Private to this room.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace ebbinghaus::model {

// A name for people made of whatever a file or folder is called: one line of valid UTF-8, not empty.
std::string DisplayName(std::string name);

// The status with "path: " before its message, unless it names the path already.
absl::Status AddPath(const std::string& path, const absl::Status& status);

}  // namespace ebbinghaus::model
