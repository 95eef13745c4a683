#include "server/model/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

absl::Status SystemError(const std::string& path) {
  const std::string message = absl::StrCat(path, ": ", std::strerror(errno));
  if (errno == ENOENT || errno == ENOTDIR) return absl::NotFoundError(message);
  if (errno == EACCES) return absl::PermissionDeniedError(message);
  return absl::InvalidArgumentError(message);
}

}  // namespace

MappedFile::MappedFile(std::string path, absl::Span<const std::byte> bytes) : path_(std::move(path)), bytes_(bytes) {}

MappedFile::~MappedFile() { munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size()); }

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block; it is refused below
  if (file < 0) return SystemError(path);
  struct stat info;
  absl::Status status;
  void* address = MAP_FAILED;
  if (fstat(file, &info) != 0) {
    status = SystemError(path);
  } else if (!S_ISREG(info.st_mode)) {
    status = absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  } else if (info.st_size == 0) {
    status = absl::InvalidArgumentError(absl::StrCat(path, ": the file is empty"));
  } else {
    address = mmap(nullptr, info.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (address == MAP_FAILED) status = SystemError(path);
  }
  close(file);
  EBB_RETURN_IF_ERROR(status);
  const auto size = static_cast<size_t>(info.st_size);
  return std::shared_ptr<const MappedFile>(
      new MappedFile(path, absl::MakeConstSpan(static_cast<const std::byte*>(address), size)));
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, size_t limit) {
  EBB_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  if (file->bytes().size() > limit) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": larger than the limit of ", limit, " bytes"));
  }
  return std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
}

}  // namespace ebbinghaus::model
