#include "server/base/violations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace ebbinghaus::base {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Message(const Violations& violations) {
  return std::string(violations.ToStatus().message());
}

TEST(ViolationsTest, NoneIsOk) {
  EXPECT_TRUE(Violations().empty());
  EXPECT_TRUE(Violations().ToStatus().ok());
}

TEST(ViolationsTest, AllAreNamedInOneInvalidArgument) {
  Violations violations;
  violations.Add("sampling.temperature", "must be in [0, 2]");
  violations.Add("input", "must be set");
  EXPECT_EQ(violations.ToStatus().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(violations), "sampling.temperature: must be in [0, 2]; input: must be set");
}

TEST(ViolationsTest, SixteenAreNamedAndTheRestCounted) {
  Violations violations;
  for (int i = 0; i < 16; ++i) violations.Add("f" + std::to_string(i), "bad");
  EXPECT_THAT(Message(violations), HasSubstr("f15: bad"));
  EXPECT_THAT(Message(violations), Not(HasSubstr("more")));
  for (int i = 16; i < 40; ++i) violations.Add("f" + std::to_string(i), "bad");
  EXPECT_THAT(Message(violations), Not(HasSubstr("f16")));
  EXPECT_THAT(Message(violations), EndsWith("; and 24 more violations"));
  EXPECT_EQ(violations.all().size(), 16u);
  EXPECT_EQ(violations.count(), 40u);
}

TEST(ViolationsTest, TheMessageIsAtMostFourKibibytesWhateverIsAdded) {
  for (size_t length : {1u, 100u, 240u, 250u, 300u, 1000u, 4000u, 4096u, 100000u}) {
    Violations violations;
    for (int i = 0; i < 30; ++i)
      violations.Add("field" + std::to_string(i), std::string(length, 'x'));
    EXPECT_LE(Message(violations).size(), 4096u) << length;
    EXPECT_THAT(Message(violations), HasSubstr("field0: x")) << length;
    const size_t named = violations.all().size();
    EXPECT_THAT(Message(violations),
                EndsWith("and " + std::to_string(30 - named) + " more violations"));
    for (size_t i = 0; i < named; ++i)
      EXPECT_THAT(Message(violations), HasSubstr("field" + std::to_string(i)));
  }
}

TEST(ViolationsTest, WhatIsNamedFillsTheRoomThereIs) {
  Violations violations;
  for (int i = 0; i < 30; ++i) violations.Add("f", std::string(1000, 'x'));
  EXPECT_EQ(violations.all().size(), 4u);
}

TEST(ViolationsTest, AfterOneIsLeftOutNoLaterOneIsNamed) {
  Violations violations;
  violations.Add("first", "bad");
  violations.Add("huge", std::string(5000, 'x'));
  violations.Add("small", "bad");
  EXPECT_EQ(Message(violations), "first: bad; and 2 more violations");
}

TEST(ViolationsTest, AHugeFirstOneIsCutBetweenCharacters) {
  for (size_t offset = 0; offset < 3; ++offset) {
    std::string description(offset, 'x');
    for (int i = 0; i < 3000; ++i) description += "\u20ac";  // three bytes
    Violations violations;
    violations.Add("stop", description);
    const std::string kept = violations.all()[0].description;
    EXPECT_LE(Message(violations).size(), 4096u);
    EXPECT_GT(kept.size(), 3900u);
    EXPECT_EQ((kept.size() - offset) % 3, 0u);
    EXPECT_EQ(description.substr(0, kept.size()), kept);
  }
}

}  // namespace
}  // namespace ebbinghaus::base
