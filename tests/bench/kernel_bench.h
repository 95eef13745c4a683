// The kernels by themselves, one set for each instruction set of this machine.
#pragma once

#include "tests/bench/options.h"
#include "tests/bench/probe.h"

namespace ebbinghaus::bench {

void RunKernelBench(const Options& options, BandwidthProbe& probe);

}  // namespace ebbinghaus::bench
