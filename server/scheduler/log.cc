#include "server/scheduler/log.h"

#include <poll.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <condition_variable>
#include <ctime>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/scheduler/mutex.h"
#include "server/text/unicode.h"

namespace ebbinghaus::scheduler {
namespace {

const char* Name(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarning: return "warning";
    case LogLevel::kError: return "error";
    case LogLevel::kOff: return "off";
  }
  return "unknown";
}

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::off;
}

// RFC 3339, UTC, milliseconds.
std::string Timestamp(std::chrono::system_clock::time_point time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const std::time_t whole = std::chrono::system_clock::to_time_t(seconds);
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(time - seconds).count();
  std::tm utc{};
  gmtime_r(&whole, &utc);
  return absl::StrFormat("%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                         utc.tm_hour, utc.tm_min, utc.tm_sec, milliseconds);
}

// Within double quotes; the escapes are JSON's.
std::string Quoted(std::string_view raw) {
  std::string out = "\"";
  for (const char c : text::ReplaceInvalidUtf8(raw)) {
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  return out += '"';
}

std::string Number(double value) { return std::isfinite(value) ? absl::StrFormat("%.6g", value) : "null"; }

// A word that a reader of name=value pairs cannot mistake stays bare.
std::string TextValue(std::string_view value) {
  const auto bare = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("_-.:/+@,[]").find(c) != std::string_view::npos;
  };
  for (const char c : value) {
    if (!bare(c)) return Quoted(value);
  }
  return value.empty() ? "\"\"" : std::string(value);
}

std::string FieldValue(LogFormat format, const LogField& field) {
  struct Visitor {
    LogFormat format;
    std::string operator()(const std::string& s) const {
      return format == LogFormat::kJson ? Quoted(s) : TextValue(s);
    }
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(int64_t i) const { return absl::StrCat(i); }
    std::string operator()(uint64_t u) const { return absl::StrCat(u); }
    std::string operator()(double d) const { return Number(d); }
  };
  return std::visit(Visitor{format}, field.value);
}

// What has been logged and is not written yet, and what did not fit.
class Backlog {
 public:
  // Room for a line; without it the line counts as dropped. A line longer than all the room is taken when nothing waits.
  bool Admit(size_t bytes) {
    MutexLock lock(mutex_);
    if (lines_ > 0 && (lines_ == kLogBacklogLines || bytes_ + bytes > kLogBacklogBytes)) {
      ++dropped_;
      ++unreported_;
      return false;
    }
    ++lines_;
    bytes_ += bytes;
    return true;
  }

  void Done(size_t bytes) {
    MutexLock lock(mutex_);
    bytes_ -= bytes;
    if (--lines_ == 0) empty_.notify_all();
  }

  bool WaitUntilEmpty(std::chrono::nanoseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    MutexLock lock(mutex_);
    while (lines_ > 0) {
      if (empty_.wait_until(mutex_, deadline) == std::cv_status::timeout) return lines_ == 0;
    }
    return true;
  }

  // Dropped since this was last asked.
  uint64_t TakeUnreported() {
    MutexLock lock(mutex_);
    return std::exchange(unreported_, 0);
  }

  uint64_t dropped() {
    MutexLock lock(mutex_);
    return dropped_;
  }

 private:
  Mutex mutex_;
  std::condition_variable_any empty_;
  size_t lines_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t dropped_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t unreported_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Leaked, as all below: threads may log until the very end.
Backlog& TheBacklog() {
  static auto* backlog = new Backlog;
  return *backlog;
}

// Waits for as long as the reader takes. A line that cannot be written at all, since nobody holds the other end, is gone.
void WriteToStandardError(std::string line) {
  line += '\n';
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t written = write(STDERR_FILENO, rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {  // another process that shares the pipe has made it non-blocking
      pollfd ready = {STDERR_FILENO, POLLOUT, 0};
      poll(&ready, 1, /*timeout=*/-1);
    } else if (errno != EINTR) {
      return;
    }
  }
}

// Used by the thread of spdlog's pool only.
class StandardErrorSink final : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit StandardErrorSink(LogFormat format) : format_(format) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string_view line(message.payload.data(), message.payload.size());
    WriteToStandardError(std::string(line));
    if (const uint64_t dropped = TheBacklog().TakeUnreported(); dropped > 0) {
      WriteToStandardError(FormatLogLine(format_, std::chrono::system_clock::now(), LogLevel::kWarning,
                                         "log_lines_dropped", {{"lines", dropped}}));
    }
    TheBacklog().Done(line.size());
  }
  void flush_() override {}

 private:
  const LogFormat format_;
};

std::shared_ptr<spdlog::details::thread_pool> WritingThread() {
  static auto* pool = new auto(std::make_shared<spdlog::details::thread_pool>(kLogBacklogLines, 1));
  return *pool;
}

// What the process logs through; swapped as a whole by ConfigureLog.
struct Sink {
  LogOptions options;
  std::shared_ptr<spdlog::logger> logger;
};

std::shared_ptr<const Sink> MakeSink(LogOptions options) {
  auto sink = std::make_shared<Sink>();
  sink->logger = std::make_shared<spdlog::async_logger>("ebbinghaus", std::make_shared<StandardErrorSink>(options.format),
                                                        WritingThread(), spdlog::async_overflow_policy::overrun_oldest);
  sink->logger->set_level(ToSpdlog(options.level));
  sink->options = std::move(options);
  return sink;
}

// The log belongs to the process, as standard error does.
struct Current {
  Mutex mutex;
  std::shared_ptr<const Sink> sink ABSL_GUARDED_BY(mutex) = MakeSink({});
};
Current& TheLog() {
  static auto* current = new Current;
  return *current;
}

}  // namespace

void ConfigureLog(LogOptions options) {
  std::shared_ptr<const Sink> sink = MakeSink(std::move(options));
  MutexLock lock(TheLog().mutex);
  TheLog().sink.swap(sink);
}

void Log(LogLevel level, std::string_view event, const LogFields& fields) {
  std::shared_ptr<const Sink> sink;
  {
    MutexLock lock(TheLog().mutex);
    sink = TheLog().sink;
  }
  if (level == LogLevel::kOff || !sink->logger->should_log(ToSpdlog(level))) return;
  const std::string line = FormatLogLine(sink->options.format, std::chrono::system_clock::now(), level, event, fields);
  if (sink->options.sink) {
    sink->options.sink(line);
  } else if (TheBacklog().Admit(line.size())) {
    sink->logger->log(ToSpdlog(level), line);
  }
}

bool FlushLog(std::chrono::nanoseconds timeout) { return TheBacklog().WaitUntilEmpty(timeout); }

uint64_t LogLinesDropped() { return TheBacklog().dropped(); }

std::string FormatLogLine(LogFormat format, std::chrono::system_clock::time_point time, LogLevel level,
                          std::string_view event, const LogFields& fields) {
  std::string line;
  if (format == LogFormat::kJson) {
    line = absl::StrCat("{\"time\":\"", Timestamp(time), "\",\"level\":\"", Name(level), "\",\"event\":", Quoted(event));
    for (const LogField& field : fields) {
      absl::StrAppend(&line, ",", Quoted(field.name), ":", FieldValue(format, field));
    }
    return line += '}';
  }
  line = absl::StrCat(Timestamp(time), " ", Name(level), " ", TextValue(event));
  for (const LogField& field : fields) absl::StrAppend(&line, " ", field.name, "=", FieldValue(format, field));
  return line;
}

}  // namespace ebbinghaus::scheduler
