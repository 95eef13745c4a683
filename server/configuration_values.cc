// How single values are written: durations, sizes, addresses.
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/configuration.h"

namespace ebbinghaus {
namespace {

absl::Status Expected(absl::string_view what, absl::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat("expected ", what, ", got '", got, "'"));
}

// Digits with at most one point: no sign, exponent, hexadecimal or space, which SimpleAtod would all take.
bool ParsePlainNumber(absl::string_view text, double* value) {
  bool plain = !text.empty() && absl::ascii_isdigit(text.back()) &&
               std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(c) || c == '.'; });
  return plain && absl::SimpleAtod(text, value) && std::isfinite(*value);
}

}  // namespace

std::string ToString(const HostPort& address) { return absl::StrCat(address.host, ":", address.port); }

bool IsLoopback(const HostPort& address) {
  std::string host = absl::AsciiStrToLower(address.host);
  if (host == "localhost") return true;
  in_addr v4 = {};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (host.size() < 2 || host.front() != '[' || host.back() != ']') return false;
  in6_addr v6 = {};
  host = host.substr(1, host.size() - 2);
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

absl::StatusOr<base::Duration> ParseDuration(absl::string_view text) {
  constexpr std::pair<absl::string_view, double> kUnits[] = {{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
  constexpr double kMaxSeconds = 30 * 24 * 3600.0;
  if (text == "0") return base::Duration::zero();
  for (const auto& [unit, seconds] : kUnits) {
    absl::string_view number = text;
    double value = 0;
    if (!absl::EndsWith(text, unit)) continue;
    number.remove_suffix(unit.size());
    if (!ParsePlainNumber(number, &value)) continue;
    if (value * seconds > kMaxSeconds) break;
    const std::chrono::nanoseconds rounded(std::llround(value * seconds * 1e9));
    if (value > 0 && rounded.count() == 0) break;  // 0 would mean something else
    return rounded;
  }
  return Expected("a duration of at most 30 days (0, or at least a nanosecond) such as 500ms, 30s, 2m or 1h", text);
}

absl::StatusOr<uint64_t> ParseBytes(absl::string_view text) {
  constexpr std::pair<absl::string_view, double> kUnits[] = {{"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0},
                                                            {"TiB", 1099511627776.0}, {"KB", 1e3}, {"MB", 1e6},
                                                            {"GB", 1e9}, {"TB", 1e12}, {"B", 1.0}, {"", 1.0}};
  for (const auto& [unit, bytes] : kUnits) {
    absl::string_view number = text;
    double value = 0;
    if (!absl::EndsWith(text, unit)) continue;
    number.remove_suffix(unit.size());
    if (!ParsePlainNumber(number, &value)) continue;
    if (value * bytes > 1e15) break;
    return static_cast<uint64_t>(value * bytes);
  }
  return Expected("a size of at most 1e15 bytes such as 8GiB, 512MiB or 1048576", text);
}

absl::StatusOr<HostPort> ParseHostPort(absl::string_view text) {
  HostPort address;
  size_t colon = text.rfind(':');
  uint32_t port = 0;
  if (colon == text.npos || colon == 0) return Expected("HOST:PORT", text);
  absl::string_view host = text.substr(0, colon);
  absl::string_view digits = text.substr(colon + 1);
  bool bracketed = host.front() == '[' && host.back() == ']' && host.size() > 2;
  if (!bracketed && host.find_first_of(":[]") != host.npos) return Expected("HOST:PORT with IPv6 in brackets", text);
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), absl::ascii_isdigit) ||
      !absl::SimpleAtoi(digits, &port) || port > 65535) {
    return Expected("HOST:PORT with a port in [0, 65535]", text);
  }
  address.host = std::string(host);
  address.port = static_cast<uint16_t>(port);
  return address;
}

}  // namespace ebbinghaus
