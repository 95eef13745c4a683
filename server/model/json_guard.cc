#include "server/model/json_guard.h"

#include "absl/strings/str_cat.h"

namespace ebbinghaus::model {

absl::StatusOr<nlohmann::json> ParseJson(const std::string& text, const std::string& what) {
  constexpr int kMaxDepth = 64;
  bool too_deep = false;
  const auto guard = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  nlohmann::json json = nlohmann::json::parse(text, guard, /*allow_exceptions=*/false);
  if (too_deep) return absl::InvalidArgumentError(absl::StrCat(what, ": nested deeper than ", kMaxDepth));
  if (json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(what, ": not valid JSON"));
  return json;
}

}  // namespace ebbinghaus::model
