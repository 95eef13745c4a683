#include "server/shutdown_signal.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

namespace ebbinghaus {
namespace {

// A signal handler can reach nothing but globals.
int g_pipe[2] = {-1, -1};

constexpr char kSignal = 's';
constexpr char kQuit = 'q';

void Write(char what) {
  while (write(g_pipe[1], &what, 1) < 0 && errno == EINTR) {
  }
}

void Handle(int) {
  const int saved = errno;
  Write(kSignal);
  errno = saved;
}

}  // namespace

ShutdownSignal::ShutdownSignal() {
  if (pipe2(g_pipe, O_CLOEXEC) != 0) std::abort();
  thread_ = std::thread([this] { Watch(); });
  struct sigaction action = {};
  action.sa_handler = Handle;
  action.sa_flags = SA_RESTART;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
}

ShutdownSignal::~ShutdownSignal() {
  signal(SIGTERM, SIG_DFL);
  signal(SIGINT, SIG_DFL);
  Write(kQuit);
  thread_.join();
}

void ShutdownSignal::BeginServing() {
  std::lock_guard lock(mutex_);
  serving_ = true;
}

void ShutdownSignal::Wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return signals_ > 0; });
}

void ShutdownSignal::WaitForAnother(std::chrono::nanoseconds timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return signals_ > 1; });
}

int ShutdownSignal::signals() const {
  std::lock_guard lock(mutex_);
  return signals_;
}

void ShutdownSignal::OnNext(std::function<void()> action) {
  std::lock_guard lock(mutex_);
  on_next_ = std::move(action);
}

void ShutdownSignal::Watch() {
  for (char what = 0;;) {
    const ssize_t got = read(g_pipe[0], &what, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got != 1 || what == kQuit) return;
    std::lock_guard lock(mutex_);
    if (!serving_) _exit(EXIT_SUCCESS);
    ++signals_;
    changed_.notify_all();
    if (signals_ > 1 && on_next_) on_next_();
  }
}

}  // namespace ebbinghaus
