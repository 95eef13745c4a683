#include "server/rpc/work_pool.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>

namespace ebbinghaus::rpc {
namespace {

// A third of a neighbour's share where all processors are busy: enough for prompts, too little to stall the engine's steps.
constexpr int kNice = 5;

}  // namespace

void WorkPool::Lane::Push(const std::string& client, std::function<void()> task) {
  std::deque<std::function<void()>>& tasks = tasks_[client];
  if (tasks.empty()) turns_.push_back(client);
  tasks.push_back(std::move(task));
}

std::function<void()> WorkPool::Lane::Pop() {
  const std::string client = std::move(turns_.front());
  turns_.pop_front();
  const auto entry = tasks_.find(client);
  std::function<void()> task = std::move(entry->second.front());
  entry->second.pop_front();
  if (entry->second.empty()) {
    tasks_.erase(entry);
  } else {
    turns_.push_back(client);
  }
  return task;
}

WorkPool::WorkPool() : thread_([this] { Run(); }) {}

WorkPool::~WorkPool() {
  {
    scheduler::MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

bool WorkPool::Submit(const std::string& client, size_t bytes, std::function<void()> task) {
  {
    scheduler::MutexLock lock(mutex_);
    if (tasks_ == kMaxTasks || stopping_) return false;
    ++tasks_;
    (bytes <= kSmallBytes ? small_ : large_).Push(client, std::move(task));
  }
  wake_.notify_one();
  return true;
}

// Null: to end.
std::function<void()> WorkPool::Next() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return tasks_ > 0 || stopping_; });
  if (stopping_) return nullptr;
  --tasks_;
  const bool small = !small_.empty() && (large_.empty() || small_in_a_row_ < kSmallInARow);
  small_in_a_row_ = small ? small_in_a_row_ + 1 : 0;
  return (small ? small_ : large_).Pop();
}

void WorkPool::Run() {
  pthread_setname_np(pthread_self(), "rpc-text");
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kNice);
  while (std::function<void()> task = Next()) task();
}

}  // namespace ebbinghaus::rpc
