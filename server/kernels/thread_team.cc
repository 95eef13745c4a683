#include "server/kernels/thread_team.h"

#include <algorithm>

namespace ebbinghaus::kernels {
namespace {

// About 50 microseconds: longer than the gaps within a step, shorter than a scheduler's time slice.
constexpr int kSpins = 2000;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadTeam::ThreadTeam(int threads) : shares_(std::max(threads, 1)) {
  for (int t = 1; t < this->threads(); ++t) helpers_.emplace_back([this, t] { Serve(t); });
}

ThreadTeam::~ThreadTeam() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    loop_.fetch_add(1);
  }
  wake_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadTeam::Run(int64_t count, int64_t chunk, Call call, const void* body) {
  const auto team = static_cast<int64_t>(shares_.size());
  // Whole chunks to everybody.
  const int64_t share = ((count + team - 1) / team + chunk - 1) / chunk * chunk;
  for (int64_t t = 0; t < team; ++t) {
    shares_[t].next.store(std::min(count, t * share), std::memory_order_relaxed);
    shares_[t].end = std::min(count, (t + 1) * share);
  }
  chunk_ = chunk;
  call_ = call;
  body_ = body;
  working_.store(static_cast<int>(team) - 1, std::memory_order_relaxed);
  loop_.fetch_add(1);  // sequentially consistent, as is reading sleeping_: one of the two sides sees the other
  if (sleeping_.load() > 0) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
  Work(0);
  for (int spins = 0; working_.load(std::memory_order_acquire) != 0;) {
    if (++spins < kSpins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadTeam::Work(int thread) {
  const int team = threads();
  for (int i = 0; i < team; ++i) {
    Share& share = shares_[(thread + i) % team];
    while (true) {
      const int64_t begin = share.next.fetch_add(chunk_, std::memory_order_relaxed);
      if (begin >= share.end) break;
      call_(body_, begin, std::min(begin + chunk_, share.end), thread);
    }
  }
}

void ThreadTeam::Serve(int thread) {
  for (uint64_t seen = 0;;) {
    for (int spins = 0; loop_.load(std::memory_order_acquire) == seen; ++spins) {
      if (spins < kSpins) {
        Pause();
        continue;
      }
      std::unique_lock lock(mutex_);
      sleeping_.fetch_add(1);
      wake_.wait(lock, [&] { return loop_.load() != seen; });
      sleeping_.fetch_sub(1);
    }
    ++seen;
    if (stop_.load()) return;
    Work(thread);
    working_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace ebbinghaus::kernels
