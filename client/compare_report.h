// A comparison's results as text and JSON.
#pragma once

#include <string>
#include <vector>

#include "client/compare.h"
#include "client/options.h"

namespace ebbinghaus::client {

// mode, tokens, seconds, tokens/s, time to first token, live and forgotten tokens; one row per
// result.
std::string ComparisonTable(const std::vector<ComparedResult>& results);

// For every result but the first, where it leaves the first one's text, one line each.
std::string DifferenceLines(const std::vector<ComparedResult>& results);

// The texts side by side within `width` columns, then each mode's memory with its table per layer.
std::string ComparisonDetails(const std::vector<ComparedResult>& results, int width);

// All of it, with every single run, as one JSON document.
std::string ComparisonJson(const Options& options, const std::vector<ComparedResult>& results);

}  // namespace ebbinghaus::client
