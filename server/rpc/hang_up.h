// Ends a call whose reader does not take what is written to it.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "server/rpc/incoming_call.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {

// Cancels a call from a thread that gRPC does not know, while gRPC may be done with the call at any moment. Thread safe.
class HangUp {
 public:
  explicit HangUp(IncomingCall* call) : call_(call) {}  // valid until Close has returned

  // Cancels, unless Close was called. OnCancel, and even OnDone, may run before it returns.
  void Cancel() {
    {
      scheduler::MutexLock lock(mutex_);
      if (closed_) return;
      cancelling_ = std::this_thread::get_id();
    }
    call_->TryCancel();
    {
      scheduler::MutexLock lock(mutex_);
      cancelling_ = std::thread::id();
    }
    cancelled_.notify_all();
  }

  // Waits until another thread's Cancel no longer uses the call.
  void Close() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    std::unique_lock lock(mutex_);
    closed_ = true;
    cancelled_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return cancelling_ == std::thread::id() || cancelling_ == std::this_thread::get_id();
    });
  }

 private:
  IncomingCall* const call_;
  scheduler::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread::id cancelling_ ABSL_GUARDED_BY(mutex_);
  std::condition_variable_any cancelled_;
};

}  // namespace ebbinghaus::rpc
