// The client program, run with standard input and output in memory.
#pragma once

#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "client/cancellation.h"
#include "client/client.h"
#include "client/console.h"

namespace ebbinghaus::client {

struct Program {
  explicit Program(std::string input = "") : in(std::move(input)) {}

  int Run(std::vector<std::string> arguments, const std::string& target) {
    arguments.insert(arguments.end(), {"--target", target});
    return client::Run(arguments, console, cancellation);
  }

  std::istringstream in;
  std::ostringstream out, err;
  Console console{in, out, err};
  Cancellation cancellation;
};

}  // namespace ebbinghaus::client
