#include "server/scheduler/courier.h"

#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <utility>

namespace ebbinghaus::scheduler {
namespace {

// About a tenth of a neighbour's share where all processors are busy.
constexpr int kNice = 10;

thread_local bool here = false;

}  // namespace

struct Courier::Tasks {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> waiting;  // guarded by mutex
  bool ending = false;                        // guarded by mutex
};

Courier::Courier() : tasks_(std::make_shared<Tasks>()), thread_([tasks = tasks_] { Run(tasks); }) {}

Courier::~Courier() {
  {
    std::lock_guard lock(tasks_->mutex);
    tasks_->ending = true;
    tasks_->changed.notify_all();
  }
  if (thread_.get_id() == std::this_thread::get_id()) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

// The task may hold the last reference to this, and be done before this returns.
void Courier::Post(std::function<void()> task) {
  const std::shared_ptr<Tasks> tasks = tasks_;
  std::lock_guard lock(tasks->mutex);
  tasks->waiting.push_back(std::move(task));
  tasks->changed.notify_one();
}

bool Courier::Here() { return here; }

void Courier::Run(const std::shared_ptr<Tasks>& tasks) {
  here = true;
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);  // on Linux a thread's own; without it all works too
  std::unique_lock lock(tasks->mutex);
  for (;;) {
    tasks->changed.wait(lock, [&] { return tasks->ending || !tasks->waiting.empty(); });
    if (tasks->waiting.empty()) return;
    std::function<void()> task = std::move(tasks->waiting.front());
    tasks->waiting.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // may destroy the courier
    lock.lock();
  }
}

}  // namespace ebbinghaus::scheduler
