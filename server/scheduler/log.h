// Structured log lines on standard error: an event's name and its fields, as text or as one JSON object per line.
//
// Logging never waits for the reader of standard error. A thread of the log's own writes the lines; when that thread is
// kLogBacklogLines lines or kLogBacklogBytes bytes behind, further lines are dropped and counted, and a line
// `log_lines_dropped` says how many once the reader goes on.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace ebbinghaus::scheduler {

enum class LogFormat { kText, kJson };
enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// A name and a value; strings may hold any bytes.
struct LogField {
  LogField(std::string_view name, std::string_view value) : name(name), value(std::string(value)) {}
  // Exact types only, lest a char pointer become a bool.
  template <typename T>
    requires std::is_arithmetic_v<T>
  LogField(std::string_view name, T number) : name(name), value(Widen(number)) {}

  std::string name;
  std::variant<std::string, bool, int64_t, uint64_t, double> value;

 private:
  template <typename T>
  static std::variant<std::string, bool, int64_t, uint64_t, double> Widen(T number) {
    if constexpr (std::is_same_v<T, bool>) {
      return number;
    } else if constexpr (std::is_floating_point_v<T>) {
      return static_cast<double>(number);
    } else if constexpr (std::is_signed_v<T>) {
      return static_cast<int64_t>(number);
    } else {
      return static_cast<uint64_t>(number);
    }
  }
};
using LogFields = std::vector<LogField>;

inline constexpr size_t kLogBacklogLines = 4096;
inline constexpr size_t kLogBacklogBytes = size_t{4} << 20;

struct LogOptions {
  LogFormat format = LogFormat::kText;
  LogLevel level = LogLevel::kInfo;  // the least severe that is written
  // Where finished lines go, without line end; unset: standard error. For tests. May be called from several threads.
  std::function<void(std::string_view line)> sink;
};

// How the whole process logs from now on. Call before threads that log are started; until then: text, info.
void ConfigureLog(LogOptions options);

// Waits until every line so far is written, at most for `timeout`. False: some are not. Call it before the process ends,
// because lines that still wait are lost then. Thread safe.
bool FlushLog(std::chrono::nanoseconds timeout);

// Lines dropped since the process started. Thread safe.
uint64_t LogLinesDropped();

// Thread safe. Never blocks, unless a test's sink does.
void Log(LogLevel level, std::string_view event, const LogFields& fields = {});
inline void LogDebug(std::string_view event, const LogFields& fields = {}) { Log(LogLevel::kDebug, event, fields); }
inline void LogInfo(std::string_view event, const LogFields& fields = {}) { Log(LogLevel::kInfo, event, fields); }
inline void LogWarning(std::string_view event, const LogFields& fields = {}) {
  Log(LogLevel::kWarning, event, fields);
}
inline void LogError(std::string_view event, const LogFields& fields = {}) { Log(LogLevel::kError, event, fields); }

// The line itself: always one line, valid UTF-8; in kJson a valid JSON object (a number that JSON lacks is null).
std::string FormatLogLine(LogFormat format, std::chrono::system_clock::time_point time, LogLevel level,
                          std::string_view event, const LogFields& fields);

}  // namespace ebbinghaus::scheduler
