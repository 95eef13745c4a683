#include "server/text/pretokenizer_regex.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ebbinghaus::text {
namespace {

std::vector<std::string> Matches(const std::string& pattern, const std::string& text) {
  const auto regex = Regex::Compile(pattern);
  EXPECT_TRUE(regex.ok()) << regex.status();
  if (!regex.ok()) return {};
  std::vector<TextRange> ranges;
  regex->FindAll(text, ranges);
  std::vector<std::string> found;
  for (const TextRange& range : ranges)
    found.push_back(text.substr(range.begin, range.end - range.begin));
  return found;
}

using Strings = std::vector<std::string>;

TEST(Regex, FindsUnicodeClasses) {
  EXPECT_EQ(Matches(R"(\p{L}+|\p{N}{1,3})", "h\u00e9\u8a18 1234"),
            (Strings{"h\u00e9\u8a18", "123", "4"}));
  EXPECT_EQ(Matches(R"(\w+)", "\u0939\u093f_1-\u2460"), (Strings{"\u0939\u093f_1"}));
}

TEST(Regex, TakesTheMongolianVowelSeparatorForNoSpace) {
  EXPECT_EQ(Matches(R"(\s)", "\u180e \u3000\x1c"), (Strings{" ", "\u3000"}));
  EXPECT_EQ(Matches(R"([^\S\n]+)", "a \n\u2003b"), (Strings{" ", "\u2003"}));
}

TEST(Regex, ReadsTheEscapesOfOniguruma) {
  EXPECT_EQ(Matches(R"([\u3040-\u309f]+)", "\u8a18\u304b\u306a"), (Strings{"\u304b\u306a"}));
  EXPECT_EQ(Matches(R"(\x{61}\x62)", "xab"), (Strings{"ab"}));
  EXPECT_EQ(Matches(R"(\v)", "\x0b\n"), (Strings{"\x0b"}));
  EXPECT_EQ(Matches("^a$", "b\na\nc"), (Strings{"a"}));
}

TEST(Regex, GoesOnBehindAnEmptyMatch) {
  EXPECT_EQ(Matches("a*", "b\u00e9aab"), (Strings{"", "", "aa", ""}));
}

TEST(Regex, KnowsWhereAWordBegins) {
  EXPECT_EQ(Matches(R"(\bw\w*)", "word sword \u00e9w w1"), (Strings{"word", "w1"}));
  EXPECT_EQ(Matches(R"(\Bd)", "word do"), (Strings{"d"}));
}

TEST(Regex, RefusesWhatWouldMeanSomethingElse) {
  for (const std::string pattern :
       {R"(\p{N}{1,3}+)", "[a[bc]]", "[a-z&&[^b]]", R"(\h)", "(?<name>a)", "(?R)",
        "a(?i)b", "(?i:straße)", "(?i:first)", "(*ACCEPT)", "a{,3}", R"([\W])", "[]a]", R"(\u12)",
        "\\"}) {
    const auto regex = Regex::Compile(pattern);
    EXPECT_EQ(regex.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
  }
}

TEST(Regex, RefusesWhatDoesNotParse) {
  const std::string deep = std::string(5000, '(') + std::string(5000, ')');
  for (const std::string& pattern :
       Strings{"(", "[a", R"(\p{Nonsense})", "a**?)", "\xff", deep, std::string(70000, 'a')}) {
    EXPECT_EQ(Regex::Compile(pattern).status().code(), absl::StatusCode::kInvalidArgument)
        << pattern.substr(0, 20);
  }
}

TEST(Regex, GivesUpOnCatastrophicBacktracking) {
  // 2^40 ways to fail; without a limit this test does not end.
  EXPECT_EQ(Matches("(a+)+b", std::string(40, 'a')), Strings{});
}

TEST(Regex, GoesOnWithoutTheJustInTimeCompilerWhenItsStackEnds) {
  const std::string run(50000, 'a');
  EXPECT_EQ(Matches("(?:a|bc)+d?", run + " bc"), (Strings{run, "bc"}));
}

TEST(Regex, ManagesLongRunsOfSpaces) {
  const std::string pattern = R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
  const std::string run(1 << 20, ' ');
  EXPECT_EQ(Matches(pattern, run), Strings{run});
  EXPECT_EQ(Matches(pattern, run + "x"), (Strings{run.substr(1), " "}));
}

}  // namespace
}  // namespace ebbinghaus::text
