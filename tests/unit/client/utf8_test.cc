#include "client/utf8.h"

#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ebbinghaus::client {
namespace {

using ::testing::ElementsAre;

TEST(Utf8Test, ValidTextIsTakenApartByCodePoint) {
  std::string_view text = "a\u00e9\u4e2d\U0001f600";
  EXPECT_EQ(FindInvalidUtf8(text), text.npos);
  EXPECT_EQ(CountCodePoints(text), 4u);
  EXPECT_EQ(CodePointSubstring(text, 1, 2), "\u00e9\u4e2d");
  EXPECT_EQ(CodePointSubstring(text, 9, 2), "");
  EXPECT_EQ(TakeCodePoint(text), U'a');
  EXPECT_EQ(TakeCodePoint(text), char32_t{0xe9});
  EXPECT_EQ(TakeCodePoint(text), char32_t{0x4e2d});
  EXPECT_EQ(TakeCodePoint(text), char32_t{0x1f600});
  EXPECT_TRUE(text.empty());
}

TEST(Utf8Test, BrokenSequencesAreFoundWhereTheyStart) {
  const std::pair<std::string, size_t> cases[] = {{"ab\xff", 2},
                                                  {"a\xc3", 1},
                                                  {"\xe4\xb8", 0},
                                                  {"\xc0\xaf", 0},  // overlong
                                                  {"\xe0\x80\xaf", 0},
                                                  {"\xf0\x80\x80\xaf", 0},
                                                  {"\xed\xa0\x80", 0},  // surrogate
                                                  {"\xf4\x90\x80\x80", 0},
                                                  {"\x80", 0},
                                                  {"\xe4"
                                                   "bc",
                                                   0}};
  for (const auto& [text, at] : cases)
    EXPECT_EQ(FindInvalidUtf8(text), at) << ::testing::PrintToString(text);
}

TEST(Utf8Test, WidthCountsColumnsNotBytes) {
  EXPECT_EQ(DisplayWidth("abc"), 3);
  EXPECT_EQ(DisplayWidth("\u00e9"), 1);
  EXPECT_EQ(DisplayWidth("e\u0301"), 1);
  EXPECT_EQ(DisplayWidth("\u4e2d\u6587"), 4);
  EXPECT_EQ(DisplayWidth("\U0001f600"), 2);
  EXPECT_EQ(DisplayWidth("\ud55c"), 2);
}

TEST(Utf8Test, ControlCharactersCannotReachTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[2J\nb\tc\r"), "a\uFFFD[2J\nb\tc\uFFFD");
  EXPECT_EQ(Printable("\u009b"), "\uFFFD");
  EXPECT_EQ(PrintableLine("a\nb\tc\x1b"), "a b c\uFFFD");
}

TEST(WrapTest, LinesBreakAtSpacesAndNewlines) {
  EXPECT_THAT(Wrap("the quick brown fox", 10), ElementsAre("the quick ", "brown fox"));
  EXPECT_THAT(Wrap("a\n\nb", 10), ElementsAre("a", "", "b"));
  EXPECT_THAT(Wrap("", 10), ElementsAre(""));
}

TEST(WrapTest, AWordLongerThanALineIsCut) {
  EXPECT_THAT(Wrap("abcdefghij", 4), ElementsAre("abcd", "efgh", "ij"));
  EXPECT_THAT(Wrap("x abcdefghij", 4), ElementsAre("x ", "abcd", "efgh", "ij"));
}

TEST(WrapTest, WideCharactersAreNotCutInTwo) {
  EXPECT_THAT(Wrap("\u4e2d\u6587\u5b57", 5), ElementsAre("\u4e2d\u6587", "\u5b57"));
}

TEST(WrapTest, WhateverTheTextEveryLineFitsAndNothingButSpaceIsLost) {
  std::mt19937 random(1);
  const std::string_view alphabet[] = {"a",      "bc",      " ",  "  ",   "\n",
                                       "\u4e2d", "e\u0301", "\t", "\xff", "longword"};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += alphabet[random() % std::size(alphabet)];
    const int width = 2 + static_cast<int>(random() % 20);
    std::string joined;
    for (const std::string& line : Wrap(text, width)) {
      EXPECT_LE(DisplayWidth(line), width) << ::testing::PrintToString(text);
      joined += line;
    }
    const auto without_space = [](std::string s) {
      std::erase_if(s, [](char c) { return c == ' ' || c == '\n' || c == '\t'; });
      return s;
    };
    EXPECT_EQ(without_space(joined), without_space(Printable(text)));
  }
}

}  // namespace
}  // namespace ebbinghaus::client
