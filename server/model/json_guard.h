// JSON from files that nobody vouches for.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace ebbinghaus::model {

// Errors: InvalidArgument naming `what` for malformed text, invalid UTF-8, or nesting deeper than 64 (which could overflow the
// stack when it is destroyed).
absl::StatusOr<nlohmann::json> ParseJson(const std::string& text, const std::string& what);

}  // namespace ebbinghaus::model
