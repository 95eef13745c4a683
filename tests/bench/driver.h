// The engine on orders from standard input, one per line, each answered by one line of JSON: how scripts/peers.sh
// interleaves it with other engines, whose drivers (tests/bench/peers) take the same orders:
//
//   prefill TOKENS                  reads a prompt               {"seconds": ...}
//   open BATCH CONTEXT STEPS [LIVE] sequences that will take so  {"seconds": ...} of getting there
//                                   many steps, with at most LIVE tokens kept of each
//   step COUNT                      steps of all of them         {"step_seconds": [...], "probe_gb_per_second": ...}
//   close                           drops them                   {}
//
// An order that fails is answered with {"error": ...}.
#pragma once

#include "absl/status/status.h"
#include "tests/bench/options.h"
#include "tests/bench/probe.h"

namespace ebbinghaus::bench {

// Until standard input ends. Takes the first of the weights and K/V forms.
absl::Status RunDriver(const Options& options, BandwidthProbe& probe);

}  // namespace ebbinghaus::bench
