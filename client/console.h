// Where a command reads and writes: the terminal in the program, strings in tests.
#pragma once

#include <istream>
#include <ostream>

namespace ebbinghaus::client {

struct Console {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  int width = 80;  // columns
};

}  // namespace ebbinghaus::client
