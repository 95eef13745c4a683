// Every metric, declared once with its unit and meaning (names: docs/operations of the contract, prefix ebbinghaus_).
#pragma once

#include <memory>
#include <string>

#include "server/base/clock.h"
#include "server/base/generation.h"

namespace ebbinghaus::metrics {

// Thread safe. The prometheus types stay in the source file.
class Metrics {
 public:
  explicit Metrics(const base::Clock* clock);
  ~Metrics();

  // The text exposition format.
  std::string Serialize() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ebbinghaus::metrics
