// The program, callable: arguments in, exit code out.
#pragma once

#include <string>
#include <vector>

#include "client/cancellation.h"
#include "client/console.h"

namespace ebbinghaus::client {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;  // a call did not end OK, or the output could not be written
inline constexpr int kExitUsage = 2;    // the command line or the prompt is wrong
inline constexpr int kExitInterrupted = 130;  // as shells say it for SIGINT

// Runs the command that `arguments` (without the program's name) describe. Errors are told on
// console.err.
int Run(const std::vector<std::string>& arguments, Console& console, Cancellation& cancellation);

}  // namespace ebbinghaus::client
