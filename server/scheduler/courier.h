// A thread for large events: to turn one into messages takes longer than the engine's thread or one of gRPC's can be spared.
#pragma once

#include <functional>
#include <memory>
#include <thread>

namespace ebbinghaus::scheduler {

// Runs tasks one after the other on a thread of its own that yields to others. May be destroyed by a task. Thread safe.
class Courier {
 public:
  Courier();
  ~Courier();  // waits for the tasks it has been given
  Courier(const Courier&) = delete;
  Courier& operator=(const Courier&) = delete;

  void Post(std::function<void()> task);
  // Whether the caller runs on the thread of a courier.
  static bool Here();

 private:
  struct Tasks;
  static void Run(const std::shared_ptr<Tasks>& tasks);

  const std::shared_ptr<Tasks> tasks_;
  std::thread thread_;
};

}  // namespace ebbinghaus::scheduler
