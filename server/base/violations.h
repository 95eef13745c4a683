// Collects everything wrong with a request, so that a caller learns all of it at once.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace ebbinghaus::base {

struct Violation {
  std::string field;        // proto field path, such as "sampling.temperature"
  std::string description;  // what is allowed and what to do
};

// Keeps the first 16 violations as far as they fit into 4 KiB and counts the rest, so that a
// request with a million mistakes costs no more than one with sixteen.
class Violations {
 public:
  static constexpr size_t kMaxNamed = 16;
  static constexpr size_t kMaxBytes = 4096;  // of ToStatus().message()

  void Add(std::string field, std::string description);
  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }  // of all that were added

  // Those that ToStatus() names, in the order they were added.
  const std::vector<Violation>& all() const { return named_; }

  // OK when empty; else InvalidArgument naming all() and the count of the rest, at most kMaxBytes.
  absl::Status ToStatus() const;

 private:
  std::vector<Violation> named_;
  size_t named_bytes_ = 0;  // of their part of the message
  bool full_ = false;
  size_t count_ = 0;
};

}  // namespace ebbinghaus::base
