// A thread for what a request's text costs: parsing it, rendering, tokenizing. gRPC's own threads, of which there are two on
// a small machine, serve streams and health and must not be held up.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <thread>

#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {

// Tasks run one after the other: small ones before large ones, and of each kind the clients in turn, so that nobody's texts
// keep another client's small one waiting for longer than the one that runs. After eight small tasks in a row a large one
// has its turn. The thread yields to the engine's. Thread safe.
class WorkPool {
 public:
  static constexpr size_t kMaxTasks = 4096;
  static constexpr size_t kSmallBytes = 16 << 10;
  static constexpr int kSmallInARow = 8;

  WorkPool();
  ~WorkPool();  // waits for the task that runs; those that wait are dropped

  // False: too many wait, and the task was not taken. `bytes` is how much text it is about.
  bool Submit(const std::string& client, size_t bytes, std::function<void()> task);

 private:
  // One queue per client, clients in turn.
  class Lane {
   public:
    void Push(const std::string& client, std::function<void()> task);
    std::function<void()> Pop();  // Requires: not empty
    bool empty() const { return turns_.empty(); }

   private:
    std::map<std::string, std::deque<std::function<void()>>> tasks_;
    std::deque<std::string> turns_;  // the clients of tasks_
  };

  void Run();
  std::function<void()> Next();

  scheduler::Mutex mutex_;
  std::condition_variable_any wake_;
  Lane small_ ABSL_GUARDED_BY(mutex_), large_ ABSL_GUARDED_BY(mutex_);
  size_t tasks_ ABSL_GUARDED_BY(mutex_) = 0;
  int small_in_a_row_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: uses all of the above
};

}  // namespace ebbinghaus::rpc
