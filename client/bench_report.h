// A load's results as numbers, text and a line per call.
#pragma once

#include <string>

#include "client/bench.h"
#include "client/json.h"
#include "client/options.h"

namespace ebbinghaus::client {

// One object: the load, calls by status, tokens per second, and median, p99 and maximum of time to
// first token, gap between tokens, and time until a refusal. Tokens, first tokens and gaps are
// those of calls that ended OK; tokens count while the load lasted.
Json Summarize(const Options& options, const BenchResult& result);

// The same for people.
std::string BenchText(const Json& summary);

// One line of JSON per call, in the order of their starts; times are seconds since the epoch, so
// that the traces of several programs can be laid side by side.
std::string BenchTrace(const BenchResult& result);

}  // namespace ebbinghaus::client
