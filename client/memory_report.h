// What a generation's memory looked like at its end, for people.
#pragma once

#include <string>

#include "ebbinghaus/v1/inference.pb.h"

namespace ebbinghaus::client {

// One line: live and forgotten tokens, K/V bytes now, at the peak and in baseline; ends in a
// newline.
std::string MemorySummary(const v1::MemoryStats& stats);

// One row per layer: live tokens, strength, time since the last reset, retention. Empty for
// baseline, which keeps no such state.
std::string MemoryTable(const v1::MemoryStats& stats);

// "1.5 MiB".
std::string FormatBytes(uint64_t bytes);

}  // namespace ebbinghaus::client
