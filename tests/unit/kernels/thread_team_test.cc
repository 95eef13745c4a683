#include "server/kernels/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace ebbinghaus::kernels {
namespace {

TEST(ThreadTeamTest, EveryIndexIsCoveredExactlyOnce) {
  for (const int threads : {1, 2, 3, 5}) {
    ThreadTeam team(threads);
    ASSERT_EQ(team.threads(), threads);
    for (const int64_t count : {1, 2, 3, 4, 5, 7, 16, 63, 64, 65, 100, 1000}) {
      for (const int64_t chunk : {1, 2, 3, 7, 16, 64, 999, 1000, 5000}) {
        std::vector<int> covered(count);  // plain: no two threads may meet at an index
        std::atomic<bool> well_formed = true;
        team.For(count, chunk, [&](int64_t begin, int64_t end, int thread) {
          if (begin >= end || end > count || thread < 0 || thread >= threads) well_formed = false;
          if (threads > 1 && end - begin > chunk) well_formed = false;
          for (int64_t i = begin; i < end; ++i) ++covered[i];
        });
        ASSERT_TRUE(well_formed) << count << ", " << chunk << ", " << threads;
        ASSERT_EQ(covered, std::vector<int>(count, 1)) << count << ", " << chunk << ", " << threads;
      }
    }
  }
}

TEST(ThreadTeamTest, NothingToDoCallsNobody) {
  ThreadTeam team(3);
  for (const int64_t count : {0, -1}) {
    team.For(count, 1, [](int64_t, int64_t, int) { ADD_FAILURE(); });
  }
}

TEST(ThreadTeamTest, NoTwoPartsHaveTheSameThreadAtOnce) {
  ThreadTeam team(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<bool> alone = true;
  for (int loop = 0; loop < 200; ++loop) {
    team.For(50, 1, [&](int64_t, int64_t, int thread) {
      if (inside[thread].fetch_add(1) != 0) alone = false;
      inside[thread].fetch_sub(1);
    });
  }
  EXPECT_TRUE(alone);
}

TEST(ThreadTeamTest, ALoopSeesWhatTheLoopBeforeItWrote) {
  ThreadTeam team(3);
  constexpr int64_t kCount = 40;
  std::vector<int64_t> from(kCount, 1), to(kCount);
  for (int loop = 0; loop < 3000; ++loop) {
    // Reads what another thread wrote just before.
    team.For(kCount, 3, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) to[i] = from[(i + 17) % kCount] + 1;
    });
    from.swap(to);
  }
  EXPECT_EQ(from, std::vector<int64_t>(kCount, 3001));
}

TEST(ThreadTeamTest, WhoIsDoneHelpsTheOthers) {
  ThreadTeam team(2);
  constexpr int64_t kCount = 10;
  for (int loop = 0; loop < 20; ++loop) {
    std::atomic<int64_t> others = 0;
    // Index 0 ends only after all others, those of its thread's own share included.
    team.For(kCount, 1, [&](int64_t begin, int64_t, int) {
      if (begin == 0) {
        while (others.load() < kCount - 1) std::this_thread::yield();
      } else {
        others.fetch_add(1);
      }
    });
    EXPECT_EQ(others.load(), kCount - 1);
  }
}

// Busy for longer than the others spin: they are asleep by then, most of the time.
void WorkAlone() {
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < std::chrono::microseconds(700)) {
  }
}

TEST(ThreadTeamTest, SleepersWakeForTheNextLoop) {
  ThreadTeam team(3);
  std::vector<int64_t> sums(3);
  for (int loop = 0; loop < 300; ++loop) {
    if (loop % 3 != 0) WorkAlone();
    team.For(30, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) sums[thread] += i;
    });
  }
  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), 300 * 435);
}

TEST(ThreadTeamTest, EndsWithoutALoopWhileSpinningAndAsleep) {
  for (int i = 0; i < 50; ++i) {
    { ThreadTeam team(3); }
    auto team = std::make_unique<ThreadTeam>(3);
    if (i % 2 == 0) team->For(10, 1, [](int64_t, int64_t, int) {});
    if (i % 3 == 0) WorkAlone();
    team.reset();
  }
}

TEST(ThreadTeamTest, HasAtLeastTheCallingThread) {
  const std::thread::id caller = std::this_thread::get_id();
  for (const int threads : {-3, 0, 1}) {
    ThreadTeam team(threads);
    EXPECT_EQ(team.threads(), 1);
    int64_t covered = 0;
    team.For(10, 3, [&](int64_t begin, int64_t end, int thread) {
      EXPECT_EQ(thread, 0);
      EXPECT_EQ(std::this_thread::get_id(), caller);
      covered += end - begin;
    });
    EXPECT_EQ(covered, 10);
  }
}

TEST(ThreadTeamTest, TwoTeamsDoNotMindEachOther) {
  std::atomic<int64_t> total = 0;
  const auto drive = [&] {
    ThreadTeam team(2);
    for (int loop = 0; loop < 300; ++loop) {
      team.For(20, 1, [&](int64_t begin, int64_t end, int) { total += end - begin; });
    }
  };
  std::thread other(drive);
  drive();
  other.join();
  EXPECT_EQ(total.load(), 2 * 300 * 20);
}

}  // namespace
}  // namespace ebbinghaus::kernels
