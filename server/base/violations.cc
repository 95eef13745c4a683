#include "server/base/violations.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::base {
namespace {
constexpr size_t kNamed = 16;
constexpr size_t kMaxBytes = 4096;
}  // namespace

void Violations::Add(std::string field, std::string description) {
  all_.push_back({std::move(field), std::move(description)});
}

absl::Status Violations::ToStatus() const {
  if (all_.empty()) return absl::OkStatus();
  std::string message;
  size_t named = 0;
  for (; named < std::min(all_.size(), kNamed); ++named) {
    std::string line = absl::StrCat(named ? "; " : "", all_[named].field, ": ", all_[named].description);
    if (message.size() + line.size() > kMaxBytes - 64) break;  // room for the count of the rest
    message += line;
  }
  if (named < all_.size()) absl::StrAppend(&message, "; and ", all_.size() - named, " more violations");
  return absl::InvalidArgumentError(message);
}

}  // namespace ebbinghaus::base
