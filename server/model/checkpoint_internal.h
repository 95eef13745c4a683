// What the two kinds of checkpoint share. Private to this room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace ebbinghaus::model {

// A name for people made of whatever a file or folder is called: one line of valid UTF-8, not empty.
std::string DisplayName(std::string name);

// The status with "path: " before its message, unless it names the path already.
absl::Status AddPath(const std::string& path, const absl::Status& status);

// The names of a folder's files, sorted; empty when it cannot be read. At most some ten thousand.
std::vector<std::string> FilesOf(const std::string& folder);
// The same for a message: the first few, and how many more there are.
std::string ListFolder(const std::string& folder);

// "model-00002-of-00005.gguf": one of several files that make up a model.
struct PartName {
  std::string stem;  // "model"
  uint32_t number = 0, count = 0;  // 1 <= number <= count
};
// `extension`: ".gguf". nullopt for other names, and for counts above 9,999.
std::optional<PartName> ParsePartName(std::string_view name, std::string_view extension);
std::string PartFileName(const std::string& stem, uint32_t number, uint32_t count, std::string_view extension);

}  // namespace ebbinghaus::model
