#include "server/model/json_fields.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

constexpr int kMaxDepth = 32;

// Nesting costs a hundred times its bytes when parsed, so it is measured before.
bool NestsTooDeep(const std::string& text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<Json> ParseJsonObject(const std::string& text, const std::string& file) {
  if (NestsTooDeep(text)) return absl::InvalidArgumentError(absl::StrCat(file, ": nested deeper than ", kMaxDepth));
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InvalidArgumentError(absl::StrCat(file, ": not valid JSON"));
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(file, ": not a JSON object"));
  return json;
}

const Json* JsonFields::Find(const std::string& key) const {
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

absl::Status JsonFields::Wrong(const std::string& key, const std::string& what) const {
  return absl::InvalidArgumentError(absl::StrCat(file_, ": ", prefix_, key, " ", what));
}

absl::StatusOr<std::optional<int64_t>> JsonFields::Integer(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number_unsigned()) {
    const auto number = value->get<uint64_t>();
    if (!std::in_range<int64_t>(number)) return Wrong(key, "is out of range");
    return static_cast<int64_t>(number);
  }
  if (!value->is_number_integer()) return Wrong(key, "must be a whole number");
  return value->get<int64_t>();
}

absl::StatusOr<std::optional<double>> JsonFields::Real(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return Wrong(key, "must be a number");
  return value->get<double>();
}

absl::StatusOr<std::optional<bool>> JsonFields::Flag(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) return Wrong(key, "must be true or false");
  return value->get<bool>();
}

absl::StatusOr<std::optional<std::string>> JsonFields::Text(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Wrong(key, "must be a string");
  return value->get<std::string>();
}

absl::StatusOr<std::vector<base::TokenId>> JsonFields::TokenIds(const std::string& key) const {
  std::vector<base::TokenId> ids;
  const Json* value = Find(key);
  if (value == nullptr) return ids;
  const auto add = [&](const Json& id) {
    if (!id.is_number_unsigned() || !std::in_range<base::TokenId>(id.get<uint64_t>())) return false;
    ids.push_back(id.get<base::TokenId>());
    return true;
  };
  const bool fits = value->is_array() ? std::all_of(value->begin(), value->end(), add) : add(*value);
  if (!fits) return Wrong(key, "must be a token id or a list of token ids");
  return ids;
}

}  // namespace ebbinghaus::model
