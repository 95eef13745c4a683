#include "server/base/violations.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::base {
namespace {

constexpr size_t kRoomForCount = 64;  // "; and 18446744073709551615 more violations"
constexpr size_t kSeparators = 4;     // ": " within, "; " between

// The longest head of at most `bytes` bytes that does not end inside a UTF-8 character.
void CutTo(size_t bytes, std::string& text) {
  if (text.size() <= bytes) return;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  text.resize(bytes);
}

}  // namespace

void Violations::Add(std::string field, std::string description) {
  ++count_;
  const size_t room = kMaxBytes - kRoomForCount;
  if (named_.empty()) {  // the first is always named, if need be in part
    CutTo((room - kSeparators) / 2, field);
    CutTo(room - kSeparators - field.size(), description);
  }
  const size_t bytes = field.size() + description.size() + kSeparators;
  // Once one is left out the later ones are too: what is named is the beginning of the list.
  full_ = full_ || named_.size() == kMaxNamed || named_bytes_ + bytes > room;
  if (full_) return;
  named_bytes_ += bytes;
  named_.push_back({std::move(field), std::move(description)});
}

absl::Status Violations::ToStatus() const {
  if (empty()) return absl::OkStatus();
  std::string message;
  for (const Violation& violation : named_) {
    absl::StrAppend(&message, message.empty() ? "" : "; ", violation.field, ": ",
                    violation.description);
  }
  if (named_.size() < count_) {
    absl::StrAppend(&message, "; and ", count_ - named_.size(), " more violations");
  }
  return absl::InvalidArgumentError(message);
}

}  // namespace ebbinghaus::base
