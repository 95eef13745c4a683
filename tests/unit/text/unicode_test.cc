#include "server/text/unicode.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace ebbinghaus::text {
namespace {

const std::string kBad = "\uFFFD";

TEST(ReplaceInvalidUtf8, LeavesValidTextAlone) {
  const std::string text = "a\u00e9\u8a18\U0001f600\uFFFD\U0010FFFF";
  EXPECT_TRUE(IsValidUtf8(text));
  EXPECT_EQ(ReplaceInvalidUtf8(text), text);
}

TEST(ReplaceInvalidUtf8, PutsOneReplacementForEachMaximalSubpart) {
  EXPECT_EQ(ReplaceInvalidUtf8("\xff"), kBad);
  EXPECT_EQ(ReplaceInvalidUtf8("\x80\x80"), kBad + kBad);
  EXPECT_EQ(ReplaceInvalidUtf8("\xe8\xa8"), kBad);  // two of three bytes
  EXPECT_EQ(ReplaceInvalidUtf8("\xe8\xa8x"), kBad + "x");
  EXPECT_EQ(ReplaceInvalidUtf8("\xf0\x9f\x98\xf0\x9f\x98\x80"), kBad + "\U0001f600");
  EXPECT_EQ(ReplaceInvalidUtf8("\xc0\xaf"), kBad + kBad);                        // overlong
  EXPECT_EQ(ReplaceInvalidUtf8("\xe0\x80\xaf"), kBad + kBad + kBad);             // overlong
  EXPECT_EQ(ReplaceInvalidUtf8("\xed\xa0\x80"), kBad + kBad + kBad);             // surrogate
  EXPECT_EQ(ReplaceInvalidUtf8("\xf4\x90\x80\x80"), kBad + kBad + kBad + kBad);  // above U+10FFFF
}

TEST(Utf8Accumulator, GivesTheSameTextHoweverTheBytesAreCutAndNeverHalfACodePoint) {
  std::mt19937 random(1);
  const std::string bytes =
      "\x7f\x41\x80\xbf\xc2\xc3\xa9\xe0\xa0\xe8\xa8\x98\xed\x9f\xf0\x90\x9f\x98\x80\xf4\x8f\xff";
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += bytes[random() % bytes.size()];
    Utf8Accumulator accumulator;
    std::string joined;
    for (size_t at = 0; at < text.size();) {
      const size_t size = 1 + random() % 4;
      const std::string part = accumulator.Add(std::string_view(text).substr(at, size));
      EXPECT_TRUE(IsValidUtf8(part));
      joined += part;
      at += size;
    }
    joined += accumulator.Finish();
    EXPECT_EQ(joined, ReplaceInvalidUtf8(text));
  }
}

TEST(Utf8Accumulator, GivesACodePointOutWithItsLastByte) {
  Utf8Accumulator accumulator;
  EXPECT_EQ(accumulator.Add("a\xe8"), "a");
  EXPECT_EQ(accumulator.Add("\xa8"), "");
  EXPECT_EQ(accumulator.Add("\x98"), "\u8a18");
  EXPECT_EQ(accumulator.Finish(), "");
}

TEST(Normalize, ComposesAndDecomposes) {
  EXPECT_EQ(Normalize(NormalizationForm::kNfc, "e\u0301 \u212b"), "\u00e9 \u00c5");
  EXPECT_EQ(Normalize(NormalizationForm::kNfd, "\u00e9"), "e\u0301");
  EXPECT_EQ(Normalize(NormalizationForm::kNfkc, "\ufb01"), "fi");
  EXPECT_EQ(Normalize(NormalizationForm::kNfkd, "\u00b2"), "2");
}

TEST(CharacterProperties, FollowUnicode) {
  EXPECT_TRUE(IsWhitespace(U'\u3000'));
  EXPECT_FALSE(IsWhitespace(U'\u180e'));
  EXPECT_TRUE(IsWord(U'\u8a18'));
  EXPECT_TRUE(IsWord(U'_'));
  EXPECT_FALSE(IsWord(U'-'));
  EXPECT_TRUE(IsNumeric(U'\u00bd'));
  EXPECT_FALSE(IsNumeric(U'a'));
  EXPECT_TRUE(IsPunctuation(U'$'));
  EXPECT_TRUE(IsPunctuation(U'\u2026'));
  EXPECT_FALSE(IsPunctuation(U'\u20ac'));
}

}  // namespace
}  // namespace ebbinghaus::text
