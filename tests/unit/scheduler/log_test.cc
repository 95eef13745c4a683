#include "server/scheduler/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/text/unicode.h"

namespace ebbinghaus::scheduler {
namespace {

using std::chrono::system_clock;

// 2026-01-02 03:04:05.678 UTC
constexpr std::chrono::minutes kPatience{2};  // for failing, not for waiting

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
  ASSERT_TRUE(FlushLog(kPatience));
  const std::string out = testing::internal::GetCapturedStderr();
  ASSERT_FALSE(out.empty());
  EXPECT_EQ(out.back(), '\n');
  EXPECT_EQ(nlohmann::json::parse(out)["percent"], "100% {}");
}

// Standard error becomes a pipe that holds one page, and that nobody reads until the test does.
class UnreadPipe {
 public:
  UnreadPipe() : saved_(dup(STDERR_FILENO)) {
    int ends[2];
    if (pipe(ends) != 0 || fcntl(ends[1], F_SETPIPE_SZ, 4096) < 0) std::abort();
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    read_end_ = ends[0];
  }
  ~UnreadPipe() {
    Restore();
    close(read_end_);
  }

  // Reads on a thread until the last writer has gone.
  void BeginReading() {
    reader_ = std::thread([this] {
      char chunk[4096];
      for (ssize_t got; (got = read(read_end_, chunk, sizeof chunk)) > 0;) text_.append(chunk, got);
    });
  }
  std::string Finish() {
    Restore();
    reader_.join();
    return text_;
  }

 private:
  void Restore() {
    if (saved_ < 0) return;
    dup2(saved_, STDERR_FILENO);
    close(std::exchange(saved_, -1));
  }

  int saved_, read_end_ = -1;
  std::thread reader_;
  std::string text_;
};

TEST_F(LogTest, AReaderThatStallsHoldsUpNoOneAndLearnsHowManyLinesItMissed) {
  ConfigureLog({LogFormat::kText, LogLevel::kInfo, nullptr});
  const uint64_t dropped_before = LogLinesDropped();
  constexpr uint64_t kLines = 3 * kLogBacklogLines;
  UnreadPipe pipe;
  for (uint64_t i = 0; i < kLines; ++i) LogInfo("line", {{"number", i}});
  EXPECT_FALSE(FlushLog(std::chrono::nanoseconds(1)));
  const uint64_t dropped = LogLinesDropped() - dropped_before;
  EXPECT_GE(dropped, kLines - kLogBacklogLines - 4096 / 20);  // what the log holds, and what the pipe does
  EXPECT_LT(dropped, kLines);

  pipe.BeginReading();
  ASSERT_TRUE(FlushLog(kPatience));
  const std::vector<std::string> lines = absl::StrSplit(pipe.Finish(), '\n', absl::SkipEmpty());
  uint64_t written = 0, next = 0, reported = 0;
  for (const std::string& line : lines) {
    const size_t equals = line.rfind('=');
    ASSERT_NE(equals, line.npos) << line;
    const uint64_t number = std::stoull(line.substr(equals + 1));
    if (absl::StrContains(line, " info line number=")) {
      EXPECT_GE(number, next) << "out of order";
      next = number + 1;
      ++written;
    }
    if (absl::StrContains(line, " warning log_lines_dropped lines=")) reported += number;
  }
  EXPECT_EQ(written, kLines - dropped);
  EXPECT_EQ(reported, dropped);
}

TEST_F(LogTest, LongLinesThatWaitAreBoundedByTheirBytes) {
  ConfigureLog({LogFormat::kText, LogLevel::kInfo, nullptr});
  const uint64_t dropped_before = LogLinesDropped();
  const std::string long_text(kLogBacklogBytes / 8, 'x');
  UnreadPipe pipe;
  for (int i = 0; i < 16; ++i) LogInfo("line", {{"text", long_text}});
  EXPECT_EQ(LogLinesDropped() - dropped_before, 16u - 7u);
  LogInfo("short");  // there is still room for it
  EXPECT_EQ(LogLinesDropped() - dropped_before, 16u - 7u);
  pipe.BeginReading();
  ASSERT_TRUE(FlushLog(kPatience));
  EXPECT_THAT(pipe.Finish(), testing::HasSubstr(" info short\n"));
}

TEST_F(LogTest, ALineLongerThanTheWholeBacklogIsWrittenWhenNothingWaits) {
  ConfigureLog({LogFormat::kText, LogLevel::kInfo, nullptr});
  ASSERT_TRUE(FlushLog(kPatience));
  UnreadPipe pipe;
  pipe.BeginReading();
  LogInfo("line", {{"text", std::string(2 * kLogBacklogBytes, 'x')}});
  ASSERT_TRUE(FlushLog(kPatience));
  EXPECT_GT(pipe.Finish().size(), 2 * kLogBacklogBytes);
}

TEST_F(LogTest, AClosedStandardErrorCostsTheLinesOnly) {
  ConfigureLog({LogFormat::kText, LogLevel::kInfo, nullptr});
  const auto before = signal(SIGPIPE, SIG_IGN);
  {
    UnreadPipe pipe;
    pipe.BeginReading();
    const int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    LogInfo("line");
    EXPECT_TRUE(FlushLog(kPatience));
    dup2(saved, STDERR_FILENO);
    close(saved);
    pipe.Finish();
  }
  signal(SIGPIPE, before);
}

}  // namespace
}  // namespace ebbinghaus::scheduler
