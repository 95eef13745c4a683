#include "server/standard_streams.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace ebbinghaus {
namespace {

void PrepareStandardStreams(int, char**, char**) {
  signal(SIGPIPE, SIG_IGN);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    // open() takes the lowest free number, which is this one.
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != stream) std::abort();
  }
}

// Runs before the initializers of libraries: some of those open descriptors, which main would find in the streams' places.
__attribute__((section(".preinit_array"), used)) void (*const kPrepare)(int, char**, char**) = PrepareStandardStreams;

}  // namespace

bool WriteWithin(base::Duration timeout, int descriptor, std::string_view text) {
  using std::chrono::steady_clock;
  const steady_clock::time_point deadline = steady_clock::now() + timeout;
  while (!text.empty()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
    pollfd ready = {descriptor, POLLOUT, 0};
    const int count = poll(&ready, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, INT_MAX)));
    if (count == 0) return false;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return false;
    // A pipe that is ready takes as much as this without blocking.
    const ssize_t written = write(descriptor, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (written > 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR && errno != EAGAIN) {
      return false;
    }
  }
  return true;
}

}  // namespace ebbinghaus
