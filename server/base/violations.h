// Collects everything wrong with a request, so that a caller learns all of it at once.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace ebbinghaus::base {

struct Violation {
  std::string field;        // proto field path, such as "sampling.temperature"
  std::string description;  // what is allowed and what to do
};

class Violations {
 public:
  void Add(std::string field, std::string description);
  bool empty() const { return all_.empty(); }
  const std::vector<Violation>& all() const { return all_; }

  // OK when empty; else InvalidArgument naming the first 16 violations and the count of the rest, at most 4 KiB.
  absl::Status ToStatus() const;

 private:
  std::vector<Violation> all_;
};

}  // namespace ebbinghaus::base
