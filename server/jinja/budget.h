// What one rendering may use up, whatever the template tries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ebbinghaus::jinja {

// Whatever copies, compares or makes something in proportion to its size spends here first. Once
// the budget is used up it stays so: each method returns false ever after, what runs may stop with
// any result, and the interpreter ends the rendering with status().
class Budget {
 public:
  static constexpr uint64_t kMaxSteps = 2'000'000;
  static constexpr size_t kMaxText = 32 << 20;     // bytes of the output, and of each text on the way
  static constexpr size_t kMaxMemory = 256 << 20;  // bytes of everything made, freed or not

  // `cancelled`: asked now and then; once it returns true the rendering ends. It must outlive this.
  explicit Budget(const std::function<bool()>* cancelled = nullptr) : cancelled_(cancelled) {}

  // One step: an expression, a statement, an iteration, an item of a list.
  bool Spend(uint64_t steps = 1) {
    if (left_ < steps || !status_.ok()) {
      return Exhaust(absl::StrCat("more than ", kMaxSteps, " steps"));
    }
    left_ -= steps;
    if (left_ / kStepsPerLook != looked_) {
      looked_ = left_ / kStepsPerLook;
      if (cancelled_ != nullptr && *cancelled_ && (*cancelled_)()) {
        status_ = absl::CancelledError("the call was cancelled");
      }
    }
    return status_.ok();
  }

  // Looking at that much text.
  bool SpendBytes(size_t bytes) { return Spend(bytes / kBytesPerStep); }

  // Making a text of that size.
  bool SpendText(size_t bytes) {
    if (bytes > kMaxText) return Exhaust(absl::StrCat("a text of more than ", kMaxText, " bytes"));
    return SpendBytes(bytes) && SpendMemory(bytes);
  }

  // Making a list, tuple or mapping of that many items.
  bool SpendItems(size_t items) { return Spend(items) && SpendMemory(items * kBytesPerItem); }

  bool SpendMemory(size_t bytes) {
    if (bytes <= memory_left_ && status_.ok()) {
      memory_left_ -= bytes;
      return true;
    }
    return Exhaust(absl::StrCat("more than ", kMaxMemory, " bytes of memory"));
  }

  bool ok() const { return status_.ok(); }
  // ResourceExhausted, with what was used up first; Cancelled; or OK.
  const absl::Status& status() const { return status_; }

 private:
  static constexpr size_t kBytesPerStep = 64, kBytesPerItem = 32;
  static constexpr uint64_t kStepsPerLook = 4096;

  bool Exhaust(const std::string& what) {
    if (status_.ok()) status_ = absl::ResourceExhaustedError(what);
    return false;
  }

  const std::function<bool()>* cancelled_;
  uint64_t left_ = kMaxSteps, looked_ = kMaxSteps / kStepsPerLook;
  size_t memory_left_ = kMaxMemory;
  absl::Status status_;
};

}  // namespace ebbinghaus::jinja
