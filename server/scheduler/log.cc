#include "server/scheduler/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <cmath>
#include <ctime>
#include <memory>

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

// What the process logs through; swapped as a whole by ConfigureLog.
struct Sink {
  LogOptions options;
  std::shared_ptr<spdlog::logger> logger;
};

std::shared_ptr<const Sink> MakeSink(LogOptions options) {
  auto sink = std::make_shared<Sink>();
  sink->logger = std::make_shared<spdlog::logger>("ebbinghaus", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  sink->logger->set_pattern("%v");
  sink->logger->set_level(ToSpdlog(options.level));
  sink->logger->flush_on(spdlog::level::debug);
  sink->options = std::move(options);
  return sink;
}

// The log belongs to the process, as standard error does; leaked, because threads may log until the very end.
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
  } else {
    sink->logger->log(ToSpdlog(level), line);
  }
}

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
