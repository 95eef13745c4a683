// The terminal's side of the client: streams, width, Ctrl-C.
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "client/client.h"

namespace {

int TerminalWidth() {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

// Waits for SIGINT on a thread of its own, since cancelling a call is nothing a signal handler may
// do. The first one cancels the call underway; one without a call, or the second, ends the program.
void WatchForInterrupt(const sigset_t& interrupt, ebbinghaus::client::Cancellation& cancellation) {
  for (int received = 0; sigwait(&interrupt, &received) == 0;) {
    const bool again = cancellation.triggered();
    if (!cancellation.Trigger() || again) _exit(ebbinghaus::client::kExitInterrupted);
  }
}

}  // namespace

int main(int argc, char** argv) {
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);  // before gRPC starts threads, which inherit it
  // Never destroyed: the watching thread may still use it while the program exits.
  auto& cancellation = *new ebbinghaus::client::Cancellation();
  std::thread([interrupt, &cancellation] { WatchForInterrupt(interrupt, cancellation); }).detach();

  std::ios::sync_with_stdio(false);
  ebbinghaus::client::Console console{
      std::cin,       std::cout, std::cerr, isatty(STDIN_FILENO) == 1, isatty(STDOUT_FILENO) == 1,
      TerminalWidth()};
  return ebbinghaus::client::Run({argv + 1, argv + argc}, console, cancellation);
}
