#include "server/rpc/work_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>
#include <mutex>
#include <string>
#include <vector>

namespace ebbinghaus::rpc {
namespace {

using testing::ElementsAre;

constexpr size_t kLarge = WorkPool::kSmallBytes + 1;

// Holds the thread until told, so that an order is seen.
class WorkPoolTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(pool_.Submit("test", 0, [this] {
      held_.set_value();
      go_on_.get_future().wait();
    }));
    held_.get_future().wait();
  }

  bool Submit(const std::string& client, size_t bytes, const std::string& name) {
    const bool taken = pool_.Submit(client, bytes, [this, name] {
      std::lock_guard lock(mutex_);
      order_.push_back(name);
      ran_.notify_one();
    });
    taken_ += taken;
    return taken;
  }

  // When all have run.
  std::vector<std::string> Order() {
    go_on_.set_value();
    std::unique_lock lock(mutex_);
    ran_.wait(lock, [this] { return order_.size() == taken_; });
    return order_;
  }

  std::promise<void> held_, go_on_;
  size_t taken_ = 0;
  std::mutex mutex_;
  std::condition_variable ran_;
  std::vector<std::string> order_;
  WorkPool pool_;
};

TEST_F(WorkPoolTest, ClientsTakeTurns) {
  Submit("a", 1, "a1");
  Submit("a", 1, "a2");
  Submit("a", 1, "a3");
  Submit("b", 1, "b1");
  Submit("c", 1, "c1");
  Submit("b", 1, "b2");
  EXPECT_THAT(Order(), ElementsAre("a1", "b1", "c1", "a2", "b2", "a3"));
}

TEST_F(WorkPoolTest, SmallTasksDoNotWaitForLargeOnesThatWait) {
  Submit("a", kLarge, "large 1");
  Submit("a", kLarge, "large 2");
  Submit("b", 1, "small");
  EXPECT_THAT(Order(), ElementsAre("small", "large 1", "large 2"));
}

TEST_F(WorkPoolTest, NoEndOfSmallTasksKeepsALargeOneOut) {
  Submit("a", kLarge, "large");
  for (int i = 0; i < 20; ++i) Submit("b", 1, "small");
  const std::vector<std::string> order = Order();
  ASSERT_GE(order.size(), 9u);
  EXPECT_LE(std::find(order.begin(), order.end(), "large") - order.begin(), WorkPool::kSmallInARow);
}

TEST_F(WorkPoolTest, TooManyThatWaitAreRefused) {
  size_t taken = 0;
  while (taken <= WorkPool::kMaxTasks && Submit("a", 1, "task")) ++taken;
  EXPECT_EQ(taken, WorkPool::kMaxTasks);
  go_on_.set_value();
}

TEST(WorkPoolEndTest, TasksThatWaitAreDroppedAtTheEnd) {
  auto token = std::make_shared<int>();
  const std::weak_ptr<int> watched = token;
  {
    std::promise<void> held, go_on;
    WorkPool pool;
    pool.Submit("a", 1, [&] {
      held.set_value();
      go_on.get_future().wait();
    });
    held.get_future().wait();
    pool.Submit("a", 1, [token] {});
    token.reset();
    go_on.set_value();
  }
  EXPECT_TRUE(watched.expired());
}

}  // namespace
}  // namespace ebbinghaus::rpc
