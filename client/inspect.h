// `ebbinghaus tokenize`, `info` and `health`.
#pragma once

#include "absl/status/status.h"
#include "client/connection.h"
#include "client/console.h"
#include "client/options.h"

namespace ebbinghaus::client {

// One token per line, its id and its bytes as text; --json prints one object.
absl::Status RunTokenize(const Options& options, const std::string& prompt, Connection& connection,
                         Console& console);

// The model and the server's state, a `name: value` per line; --json prints one object.
absl::Status RunInfo(const Options& options, Connection& connection, Console& console);

// Prints the serving status. Errors: Unavailable if it is anything but SERVING.
absl::Status RunHealth(const Options& options, Connection& connection, Console& console);

}  // namespace ebbinghaus::client
