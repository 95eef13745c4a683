#include "server/base/host_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace ebbinghaus::base {
namespace {

class HostMemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "host_memory_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
    Write("/proc/meminfo", "MemTotal:       8000 kB\nMemFree:        1 kB\n");
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  std::string root_;
};

TEST_F(HostMemoryTest, WithoutALimitItIsTheMachines) {
  EXPECT_EQ(MemoryLimitBytes(root_), 8000u * 1024);
  Write("/proc/self/cgroup", "4:memory:/\n0::/app\n");
  Write("/sys/fs/cgroup/app/memory.max", "max\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(MemoryLimitBytes(root_), 8000u * 1024);
}

TEST_F(HostMemoryTest, TheTightestLevelOfTheProcessOwnGroupCounts) {
  Write("/proc/self/cgroup", "0::/a/b/c\n");
  Write("/sys/fs/cgroup/a/memory.max", "3000000\n");
  Write("/sys/fs/cgroup/a/b/memory.max", "2000000\n");
  Write("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
  Write("/sys/fs/cgroup/other/memory.max", "1\n");
  EXPECT_EQ(MemoryLimitBytes(root_), 2'000'000u);
}

TEST_F(HostMemoryTest, InsideAContainerTheMountItselfHoldsTheLimit) {
  Write("/proc/self/cgroup", "0::/../../host/path\n");
  Write("/sys/fs/cgroup/memory.max", "1000000\n");
  EXPECT_EQ(MemoryLimitBytes(root_), 1'000'000u);
}

TEST_F(HostMemoryTest, ReadsTheLimitOfVersionOne) {
  Write("/proc/self/cgroup", "5:cpu:/y\n4:memory:/x\n0::/\n");
  Write("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "1500000\n");
  Write("/sys/fs/cgroup/memory/y/memory.limit_in_bytes", "1\n");
  EXPECT_EQ(MemoryLimitBytes(root_), 1'500'000u);
}

TEST_F(HostMemoryTest, ALimitAboveTheMachineIsNone) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "99000000000\n");
  EXPECT_EQ(MemoryLimitBytes(root_), 8000u * 1024);
}

TEST(HostMemory, ThisMachineHasSome) { EXPECT_GT(MemoryLimitBytes(), 0u); }

}  // namespace
}  // namespace ebbinghaus::base
