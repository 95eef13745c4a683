#include "server/rpc/watched_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/log.h"

namespace ebbinghaus::rpc {
namespace {

class Descriptor {
 public:
  // A pipe without a writer must not hold us up.
  explicit Descriptor(const std::string& path) : number_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int operator*() const { return number_; }

 private:
  const int number_;
};

absl::Status CannotRead(const std::string& path) {
  return absl::NotFoundError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  const Descriptor file(path);
  struct stat status = {};
  if (*file < 0 || fstat(*file, &status) != 0) return CannotRead(path);
  if (!S_ISREG(status.st_mode)) return absl::FailedPreconditionError(absl::StrCat(path, " is not a regular file"));
  std::string text;
  char chunk[1 << 14];
  for (;;) {
    const ssize_t got = read(*file, chunk, sizeof(chunk));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return CannotRead(path);
    if (got == 0) return text;
    text.append(chunk, static_cast<size_t>(got));
    if (text.size() > WatchedFiles::kMaxFileBytes) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, " is larger than ", WatchedFiles::kMaxFileBytes, " bytes"));
    }
  }
}

}  // namespace

WatchedFiles::WatchedFiles(std::string what, std::vector<std::string> paths, Use use)
    : what_(std::move(what)), paths_(std::move(paths)), use_(std::move(use)) {}

WatchedFiles::Contents WatchedFiles::Read() const {
  std::vector<std::string> contents;
  for (const std::string& path : paths_) {
    absl::StatusOr<std::string> text = ReadFile(path);
    if (!text.ok()) return text.status();
    contents.push_back(*std::move(text));
  }
  return contents;
}

absl::Status WatchedFiles::Load() {
  seen_ = tried_ = Read();
  return seen_.ok() ? use_(*seen_) : seen_.status();
}

void WatchedFiles::Poll() {
  Contents now = Read();
  const bool settled = now == seen_;
  seen_ = std::move(now);
  if (!settled || seen_ == tried_) return;
  tried_ = seen_;
  const absl::Status status = seen_.ok() ? use_(*seen_) : seen_.status();
  const std::string files = absl::StrJoin(paths_, " ");
  if (status.ok()) {
    scheduler::LogInfo("reloaded", {{"what", what_}, {"files", files}});
  } else {
    scheduler::LogWarning("reload_failed", {{"what", what_},
                                            {"files", files},
                                            {"error", std::string(status.message())},
                                            {"in_force", "what was read before"}});
  }
}

}  // namespace ebbinghaus::rpc
