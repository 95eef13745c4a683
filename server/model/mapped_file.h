// A file mapped read-only into memory.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ebbinghaus::model {

// The mapping lives as long as the object. A file that somebody truncates while it is mapped raises SIGBUS on access; weights
// are copied out while loading, so the window is the load itself.
class MappedFile {
 public:
  // Errors: NotFound, PermissionDenied or InvalidArgument (not a regular file, empty), naming the path.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  absl::Span<const std::byte> bytes() const { return bytes_; }
  const std::string& path() const { return path_; }

 private:
  MappedFile(std::string path, absl::Span<const std::byte> bytes);

  const std::string path_;
  const absl::Span<const std::byte> bytes_;
};

// The whole of a small text file. Errors: as MappedFile::Open, and InvalidArgument above `limit` bytes.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t limit);

}  // namespace ebbinghaus::model
