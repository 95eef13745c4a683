#include "server/engine/kv_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ebbinghaus::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr uint64_t kGigabyte = 1'000'000'000, kLeast = 1'000'000;

TEST(KvMemoryBytes, ByDefaultAllTogetherTakeFourFifths) {
  const auto bytes = KvMemoryBytes(0, 10 * kGigabyte, kGigabyte, kLeast);
  ASSERT_TRUE(bytes.ok());
  const uint64_t all = *bytes + *bytes / 16 /* the prefix cache's masses */ + kGigabyte + kWorkspaceBytes;
  EXPECT_LE(all, 8 * kGigabyte);
  EXPECT_GT(all, 8 * kGigabyte - 100);
}

TEST(KvMemoryBytes, WhatIsAskedForIsTakenAsLongAsItFits) {
  EXPECT_EQ(*KvMemoryBytes(2 * kGigabyte, 10 * kGigabyte, kGigabyte, kLeast), 2 * kGigabyte);
  EXPECT_EQ(*KvMemoryBytes(99 * kGigabyte, 0, kGigabyte, kLeast), 99 * kGigabyte) << "the limit is not known";
  const absl::Status refused = KvMemoryBytes(9 * kGigabyte, 10 * kGigabyte, kGigabyte, kLeast).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("weights 1000 MB"), HasSubstr("workspace 536 MB"), HasSubstr("--kv-memory 9000 MB"),
                    HasSubstr("10536 MB"), HasSubstr("10000 MB")));
}

TEST(KvMemoryBytes, TooLittleForAPageIsAnError) {
  EXPECT_EQ(KvMemoryBytes(kLeast - 1, 10 * kGigabyte, 0, kLeast).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(KvMemoryBytes(kLeast, 10 * kGigabyte, 0, kLeast).ok());
}

TEST(KvMemoryBytes, WhereTheWeightsLeaveNothingTheErrorShowsTheSum) {
  const absl::Status refused = KvMemoryBytes(0, kGigabyte, kGigabyte / 2, kLeast).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              AllOf(HasSubstr("weights 500 MB"), HasSubstr("K/V of at least 1 MB"), HasSubstr("800 MB"),
                    HasSubstr("--kv-memory")));
}

}  // namespace
}  // namespace ebbinghaus::engine
