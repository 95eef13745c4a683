// `ebbinghaus generate`.
#pragma once

#include "absl/status/status.h"
#include "client/connection.h"
#include "client/console.h"
#include "client/options.h"

namespace ebbinghaus::client {

// Prints the text to console.out as it comes, flushed event by event; with --json one object per
// event. --verbose tells request, usage and memory on console.err. Errors: of RunGeneration;
// Aborted when the output cannot be written.
absl::Status RunGenerate(const Options& options, const std::string& prompt, Connection& connection,
                         Console& console);

}  // namespace ebbinghaus::client
