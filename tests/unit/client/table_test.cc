#include "client/table.h"

#include <sstream>

#include "client/memory_report.h"
#include "client/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ebbinghaus::client {
namespace {

using ::testing::HasSubstr;

TEST(TableTest, ColumnsAreAsWideAsTheirWidestCell) {
  Table table({{"mode", Table::Align::kLeft}, {"n"}});
  table.AddRow({"baseline", "7"});
  table.AddRow({"\u4e2d", "12345"});
  EXPECT_EQ(table.Render(),
            "mode          n\n"
            "---------------\n"
            "baseline      7\n"
            "\u4e2d        12345\n");
}

TEST(SideBySideTest, TextsStandBesideEachOther) {
  EXPECT_EQ(SideBySide({{"left", "one two three four five"}, {"right", "1"}}, 43),
            "left                 | right\n"
            "-------------------- | --------------------\n"
            "one two three four   | 1\n"
            "five                 |\n");
}

TEST(SideBySideTest, InANarrowTerminalTheyStandBelowEachOther) {
  EXPECT_EQ(SideBySide({{"left", "one"}, {"right", "two"}}, 30),
            "--- left ---\none\n\n--- right ---\ntwo\n");
}

TEST(SideBySideTest, NoLineIsWiderThanTheTerminal) {
  const std::string text =
      "\u4e2d\u6587 words \U0001f600 and a_very_long_word_that_has_to_be_broken_somewhere";
  for (int width : {20, 63, 80, 200}) {
    std::istringstream lines(SideBySide({{"a", text}, {"b", text}, {"c", text}}, width));
    for (std::string line; std::getline(lines, line);) EXPECT_LE(DisplayWidth(line), width) << line;
  }
}

TEST(MemoryReportTest, LayersBecomeRowsAndBaselineHasNone) {
  v1::MemoryStats stats;
  stats.add_layers()->set_live_tokens(5);
  EXPECT_EQ(MemoryTable(stats), "");
  stats.mutable_layers(0)->set_max_strength(6.25);
  stats.mutable_layers(0)->set_mean_retention(0.5);
  EXPECT_THAT(MemoryTable(stats), ::testing::AllOf(HasSubstr("mean retention"), HasSubstr("6.250"),
                                                   HasSubstr("0.5000")));
}

TEST(MemoryReportTest, BytesGetAUnitThatFits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(3ull << 30), "3.0 GiB");
}

}  // namespace
}  // namespace ebbinghaus::client
