// Files that are read again when they change.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/clock.h"
#include "server/base/periodic.h"

namespace ebbinghaus::rpc {

// Some files that are used together, such as a certificate and its key. They are compared by content, so it does not
// matter how they are replaced: written over, renamed over, or behind symbolic links that are swapped, as Kubernetes
// does with secrets. Not thread safe.
class WatchedFiles {
 public:
  static constexpr size_t kMaxFileBytes = 1 << 20;
  // Takes the contents, in the order of the paths, or says what is wrong with them and leaves all as it was.
  using Use = std::function<absl::Status(const std::vector<std::string>& contents)>;

  // `what` names them in the log. Nothing is read yet.
  WatchedFiles(std::string what, std::vector<std::string> paths, Use use);

  // Reads and uses them for the first time. Errors: NotFound, or FailedPrecondition for what is no file or too large,
  // with the path; or those of `use`.
  absl::Status Load();

  // Looks once whether they have changed. A change is used when two looks in a row find the same, so that files caught
  // in the middle of being written, or of which the first is replaced and the second not yet, are left alone. What cannot
  // be used is logged as a warning and not tried again until it changes.
  void Poll();

 private:
  using Contents = absl::StatusOr<std::vector<std::string>>;
  Contents Read() const;

  const std::string what_;
  const std::vector<std::string> paths_;
  const Use use_;
  Contents seen_ = absl::UnknownError("");   // by the last look
  Contents tried_ = absl::UnknownError("");  // what was last used, or could not be
};

// A thread that polls, until this is destroyed.
class FilePoller {
 public:
  FilePoller(std::vector<std::unique_ptr<WatchedFiles>> files, base::Duration interval)
      : files_(std::move(files)), poll_(interval, [this] {
          for (const std::unique_ptr<WatchedFiles>& files : files_) files->Poll();
        }) {}

 private:
  const std::vector<std::unique_ptr<WatchedFiles>> files_;
  base::Periodic poll_;  // last: uses the files
};

}  // namespace ebbinghaus::rpc
