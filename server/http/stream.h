// The writing end of an answer that goes on: server-sent events, to one client.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

namespace ebbinghaus::http {

// Between a publisher and the connection that sends what it publishes. What waits to be sent is bounded; a client that
// does not read is cut off after Limits::answer_timeout. Owned by both, so a publisher may keep it for as long as it
// likes. Thread safe.
class Stream {
 public:
  // At most `capacity_bytes` wait. `wake` tells the connection that there is something to do; it is called under this
  // object's lock, and never again once the client has gone.
  Stream(size_t capacity_bytes, std::function<void()> wake);

  // Queues all of `bytes`, or nothing: false when they do not fit or the client has gone.
  bool Write(std::string_view bytes);
  // Ends the answer in order, after what is queued.
  void Close();

  // The client has gone, or was cut off, or the server stops: nothing more can be sent.
  bool gone() const;
  // Calls `tell` once, when the client goes; at once if it has. It runs on the network's thread and must not wait.
  void OnGone(std::function<void()> tell);

  // For the connection: what is queued, which counts against the capacity until Sent.
  std::string Take();
  void Sent();
  // Nothing is queued or being sent, and Close was called.
  bool finished() const;
  void Gone();

 private:
  const size_t capacity_bytes_;
  mutable std::mutex mutex_;
  std::function<void()> wake_;  // guarded by mutex_, like all below; null once the client has gone
  std::function<void()> tell_;
  std::string queued_;
  size_t sending_bytes_ = 0;
  bool closed_ = false;
};

}  // namespace ebbinghaus::http
