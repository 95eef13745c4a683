// What the program itself says on standard output and standard error, beside the log.
#pragma once

#include <string_view>

#include "server/base/clock.h"

namespace ebbinghaus {

// A program that links this file finds /dev/null in place of each of the three standard streams that its parent has closed,
// lest the next file or socket get its number and lines be written into that; and writing to a pipe or socket without a reader
// is an error instead of SIGPIPE. Nothing has to be called for it.

// Writes all of `text`, at most for `timeout`: a pipe that is full and is not read must not hold the process. Beside other
// writers to the same pipe it may still block. False: not all of it was written.
bool WriteWithin(base::Duration timeout, int descriptor, std::string_view text);

}  // namespace ebbinghaus
