// A fixed set of threads that run one loop after another, each ended by all of them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace ebbinghaus::kernels {

// Owned and driven by one thread, which takes part. Between loops the others spin for a moment (the next loop of a step
// comes within microseconds), then sleep.
class ThreadTeam {
 public:
  // threads >= 1, the calling one included.
  explicit ThreadTeam(int threads);
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;
  ~ThreadTeam();

  int threads() const { return static_cast<int>(shares_.size()); }

  // Calls body(begin, end, thread) until [0, count) is covered, in chunks of at most `chunk` (a team of one: all at once).
  // Requires: chunk >= 1. Each thread begins with a
  // contiguous share of its own, from front to back, so that it reads one linear stream; who is done helps the others,
  // so that a thread whose core is taken away holds nobody up for long. Returns when all is done.
  // Allocates nothing. `body` must not throw and must not call For.
  template <typename Body>
  void For(int64_t count, int64_t chunk, const Body& body) {
    if (count <= 0) return;
    if (shares_.size() == 1 || count <= chunk) return body(int64_t{0}, count, 0);
    Run(count, chunk, [](const void* b, int64_t begin, int64_t end, int thread) {
      (*static_cast<const Body*>(b))(begin, end, thread);
    }, &body);
  }

 private:
  using Call = void (*)(const void* body, int64_t begin, int64_t end, int thread);
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  void Run(int64_t count, int64_t chunk, Call call, const void* body);
  void Work(int thread);
  void Serve(int thread);

  std::vector<Share> shares_;  // [threads]
  int64_t chunk_ = 1;
  Call call_ = nullptr;
  const void* body_ = nullptr;

  alignas(64) std::atomic<uint64_t> loop_{0};  // counts loops
  alignas(64) std::atomic<int> working_{0};    // helpers not done with this loop
  std::atomic<bool> stop_{false};
  std::atomic<int> sleeping_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> helpers_;
};

}  // namespace ebbinghaus::kernels
