// What one rendering may use up, whatever the template tries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ebbinghaus::text::jinja {

// Whatever copies, compares or makes something in proportion to its size spends here first. Once the budget is used up it
// stays so: each method returns false ever after, what runs may stop with any result, and the interpreter ends the
// rendering with status().
class Budget {
 public:
  static constexpr uint64_t kMaxSteps = 2'000'000;
  static constexpr size_t kMaxText = 32 << 20;  // bytes of the output, and of every text on the way

  // One step: an expression, a statement, an iteration, an item of a list.
  bool Spend(uint64_t steps = 1) {
    if (left_ >= steps && status_.ok()) {
      left_ -= steps;
      return true;
    }
    return Exhaust(absl::StrCat("more than ", kMaxSteps, " steps"));
  }

  // Looking at that much text.
  bool SpendBytes(size_t bytes) { return Spend(bytes / kBytesPerStep); }

  // Making a text of that size.
  bool SpendText(size_t bytes) {
    if (bytes > kMaxText) return Exhaust(absl::StrCat("a text of more than ", kMaxText, " bytes"));
    return SpendBytes(bytes);
  }

  // ResourceExhausted, with what was used up first; or OK.
  const absl::Status& status() const { return status_; }

 private:
  static constexpr size_t kBytesPerStep = 64;

  bool Exhaust(const std::string& what) {
    if (status_.ok()) status_ = absl::ResourceExhaustedError(what);
    return false;
  }

  uint64_t left_ = kMaxSteps;
  absl::Status status_;
};

}  // namespace ebbinghaus::text::jinja
