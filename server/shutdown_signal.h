// SIGTERM and SIGINT as something ordinary code can wait for.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace ebbinghaus {

// The handler only writes to a pipe; a thread of this object reads it. (Blocking the signals and waiting for them with
// sigwait would not do: libraries start threads before main, and those take the signal with its default action.)
// Make one, and keep it to the end of the process.
class ShutdownSignal {
 public:
  ShutdownSignal();
  ~ShutdownSignal();

  // From now on signals are counted. One that comes before this ends the process at once, with 0: nothing is served yet that
  // would have to be drained.
  void BeginServing();

  // After BeginServing: returns at the first signal.
  void Wait();

  // Returns at the second signal, or after `timeout`.
  void WaitForAnother(std::chrono::nanoseconds timeout);
  int signals() const;  // since BeginServing

  // What a signal after the first does, on this object's thread; null: nothing. Returns once a call under way has ended.
  void OnNext(std::function<void()> action);

 private:
  void Watch();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool serving_ = false;              // guarded by mutex_
  int signals_ = 0;                   // guarded by mutex_
  std::function<void()> on_next_;     // guarded by mutex_
  std::thread thread_;
};

}  // namespace ebbinghaus
