#include "server/cpu_count.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace ebbinghaus {
namespace {

class CpuCountTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "cpu_count_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }

  std::string root_;
};

TEST_F(CpuCountTest, WithoutCgroupFilesThereIsNoQuota) {
  EXPECT_EQ(CgroupCpuQuota(root_), 0);
  EXPECT_GE(UsableCpus(root_), 1u);
}

TEST_F(CpuCountTest, ReadsTheQuotaOfVersionTwo) {
  Write("/proc/self/cgroup", "0::/app\n");
  Write("/sys/fs/cgroup/app/cpu.max", "150000 100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_), 1.5);
  EXPECT_EQ(UsableCpus(root_), 1u);
}

TEST_F(CpuCountTest, TheTightestLevelCounts) {
  Write("/proc/self/cgroup", "0::/a/b/c\n");
  Write("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
  Write("/sys/fs/cgroup/a/b/cpu.max", "200000 100000\n");
  Write("/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_), 2);
}

TEST_F(CpuCountTest, InsideAContainerTheMountItselfHoldsTheLimit) {
  Write("/proc/self/cgroup", "0::/../../host/path\n");
  Write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_), 0.5);
  EXPECT_EQ(UsableCpus(root_), 1u);
}

TEST_F(CpuCountTest, ReadsTheQuotaOfVersionOne) {
  Write("/proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "400000\n");
  Write("/sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(CgroupCpuQuota(root_), 4);
}

TEST_F(CpuCountTest, NoLimitIsNoQuota) {
  Write("/proc/self/cgroup", "3:cpu:/\n0::/\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  Write("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  Write("/sys/fs/cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(CgroupCpuQuota(root_), 0);
}

TEST_F(CpuCountTest, MalformedFilesAreNoQuota) {
  Write("/proc/self/cgroup", "nonsense\n0::\n0::relative\n::/\n");
  Write("/sys/fs/cgroup/cpu.max", "abc\n");
  EXPECT_EQ(CgroupCpuQuota(root_), 0);
}

}  // namespace
}  // namespace ebbinghaus
