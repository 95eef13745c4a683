#include "server/scheduler/log.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "server/text/unicode.h"

namespace ebbinghaus::scheduler {
namespace {

using std::chrono::system_clock;

// 2026-01-02 03:04:05.678 UTC
const system_clock::time_point kTime{std::chrono::milliseconds(1767323045678)};

TEST(FormatLogLine, TextIsTimeLevelEventAndPairs) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, kTime, LogLevel::kInfo, "request",
                          {{"id", "req-1"}, {"tokens", 7u}, {"seconds", 0.25}, {"ok", true}, {"delta", -3}}),
            "2026-01-02T03:04:05.678Z info request id=req-1 tokens=7 seconds=0.25 ok=true delta=-3");
}

TEST(FormatLogLine, TextQuotesWhatCouldBeMistaken) {
  const std::string line =
      FormatLogLine(LogFormat::kText, kTime, LogLevel::kError, "e", {{"a", "x y=z"}, {"b", ""}, {"c", "q\"\\\n"}});
  EXPECT_EQ(line, "2026-01-02T03:04:05.678Z error e a=\"x y=z\" b=\"\" c=\"q\\\"\\\\\\n\"");
}

TEST(FormatLogLine, JsonKeepsTypes) {
  const auto json = nlohmann::json::parse(FormatLogLine(
      LogFormat::kJson, kTime, LogLevel::kWarning, "request",
      {{"id", "req-1"}, {"tokens", uint64_t{1} << 63}, {"seconds", 0.25}, {"ok", true}, {"delta", int64_t{-3}}}));
  EXPECT_EQ(json, nlohmann::json({{"time", "2026-01-02T03:04:05.678Z"},
                                  {"level", "warning"},
                                  {"event", "request"},
                                  {"id", "req-1"},
                                  {"tokens", uint64_t{1} << 63},
                                  {"seconds", 0.25},
                                  {"ok", true},
                                  {"delta", -3}}));
}

TEST(FormatLogLine, JsonHasNoNumberForInfinity) {
  const auto json = nlohmann::json::parse(FormatLogLine(
      LogFormat::kJson, kTime, LogLevel::kInfo, "e",
      {{"a", std::numeric_limits<double>::infinity()}, {"b", std::numeric_limits<double>::quiet_NaN()}}));
  EXPECT_TRUE(json["a"].is_null());
  EXPECT_TRUE(json["b"].is_null());
}

TEST(FormatLogLine, AnyBytesMakeOneValidLine) {
  std::mt19937 random(3);
  for (int round = 0; round < 5000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % (round % 2 ? 256 : 48));
    const std::string json = FormatLogLine(LogFormat::kJson, kTime, LogLevel::kInfo, "e", {{"id", bytes}});
    EXPECT_EQ(nlohmann::json::parse(json)["id"], text::ReplaceInvalidUtf8(bytes));
    const std::string plain = FormatLogLine(LogFormat::kText, kTime, LogLevel::kInfo, "e", {{"id", bytes}});
    for (const std::string& line : {json, plain}) {
      EXPECT_TRUE(text::IsValidUtf8(line));
      for (const char c : line) EXPECT_GE(static_cast<unsigned char>(c), 0x20) << line;
    }
  }
}

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override { ConfigureLog({}); }

  void Configure(LogLevel level) {
    ConfigureLog({LogFormat::kText, level, [this](std::string_view line) { lines_.emplace_back(line); }});
  }
  std::vector<std::string> lines_;
};

TEST_F(LogTest, WritesFromItsLevelOn) {
  Configure(LogLevel::kWarning);
  LogDebug("a");
  LogInfo("b", {{"x", 1}});
  LogWarning("c");
  LogError("d", {{"x", 1}});
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_NE(lines_[0].find(" warning c"), std::string::npos);
  EXPECT_NE(lines_[1].find(" error d x=1"), std::string::npos);
}

TEST_F(LogTest, OffIsSilent) {
  Configure(LogLevel::kOff);
  LogError("d");
  EXPECT_TRUE(lines_.empty());
}

TEST_F(LogTest, GoesToStandardErrorWithoutASink) {
  ConfigureLog({LogFormat::kJson, LogLevel::kInfo, nullptr});
  testing::internal::CaptureStderr();
  LogInfo("hello", {{"percent", "100% {}"}});
  const std::string out = testing::internal::GetCapturedStderr();
  ASSERT_FALSE(out.empty());
  EXPECT_EQ(out.back(), '\n');
  EXPECT_EQ(nlohmann::json::parse(out)["percent"], "100% {}");
}

}  // namespace
}  // namespace ebbinghaus::scheduler
