// A broken invariant ends the process with a line that says where; never for input, which gets a
// status.
#pragma once

#include <cstdio>
#include <cstdlib>

#define EBB_CHECK(condition)                                                                 \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
