#include "server/kernels/huge_buffer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace ebbinghaus::kernels {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

TEST(HugeBufferTest, IsZeroedAlignedAndOfTheSizeAskedFor) {
  for (const size_t bytes :
       {size_t{1}, size_t{4096}, kHugePage - 1, kHugePage, kHugePage + 1, 3 * kHugePage + 5}) {
    const HugeBuffer buffer(bytes);
    ASSERT_EQ(buffer.size(), bytes);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kHugePage, 0u);
    ASSERT_TRUE(std::all_of(buffer.data(), buffer.data() + bytes,
                            [](std::byte b) { return b == std::byte{0}; }));
    std::fill_n(buffer.data(), bytes, std::byte{7});  // all of it is ours
  }
}

TEST(HugeBufferTest, IsZeroedAlsoWhereAnotherWasBefore) {
  for (int i = 0; i < 5; ++i) {
    const HugeBuffer buffer(kHugePage);
    ASSERT_EQ(buffer.data()[i], std::byte{0});
    std::fill_n(buffer.data(), buffer.size(), std::byte{9});
  }
}

TEST(HugeBufferTest, OfNoBytesHoldsNothing) {
  EXPECT_EQ(HugeBuffer(0).data(), nullptr);
  EXPECT_EQ(HugeBuffer().data(), nullptr);
  EXPECT_EQ(HugeBuffer().size(), 0u);
}

TEST(HugeBufferTest, MovingHandsTheMemoryOverAndLeavesNothing) {
  HugeBuffer first(100);
  std::byte* data = first.data();
  data[99] = std::byte{3};
  HugeBuffer second(std::move(first));
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.size(), 100u);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT: what this test is about
  EXPECT_EQ(first.size(), 0u);

  HugeBuffer third(200);
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(third.data()[99], std::byte{3});
  EXPECT_EQ(second.data(), nullptr);  // NOLINT
  EXPECT_EQ(second.size(), 0u);
}

TEST(HugeBufferTest, TooManyBytesAreABadAlloc) {
  for (const size_t bytes : {SIZE_MAX, SIZE_MAX / 2 + 1, SIZE_MAX / 2, SIZE_MAX / 4}) {
    EXPECT_THROW(HugeBuffer{bytes}, std::bad_alloc) << bytes;
  }
}

}  // namespace
}  // namespace ebbinghaus::kernels
