#include "server/model/json_fields.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
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

// What a value is, for messages.
std::string Shown(const Json& value) {
  constexpr size_t kShownBytes = 64;
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  const std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  return text.size() <= kShownBytes ? text : absl::StrCat(text.substr(0, kShownBytes), "...");
}

// Programs that write every number as a real write whole ones as 2048.0.
std::optional<int64_t> WholeNumber(const Json& value) {
  constexpr double kExact = 1ull << 53;
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return std::in_range<int64_t>(number) ? std::optional<int64_t>(number) : std::nullopt;
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double real = value.get<double>();
  if (!(real >= -kExact && real <= kExact) || real != std::floor(real)) return std::nullopt;
  return static_cast<int64_t>(real);
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
  const std::optional<int64_t> number = WholeNumber(*value);
  if (!number) return Wrong(key, absl::StrCat("is ", Shown(*value), ", but must be a whole number"));
  return number;
}

absl::StatusOr<std::optional<double>> JsonFields::Real(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return Wrong(key, absl::StrCat("is ", Shown(*value), ", but must be a number"));
  return value->get<double>();
}

absl::StatusOr<std::optional<bool>> JsonFields::Flag(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  const std::optional<int64_t> number = WholeNumber(*value);
  if (number == 0 || number == 1) return number == 1;
  return Wrong(key, absl::StrCat("is ", Shown(*value), ", but must be true or false"));
}

absl::StatusOr<std::optional<std::string>> JsonFields::Text(const std::string& key) const {
  const Json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Wrong(key, absl::StrCat("is ", Shown(*value), ", but must be a string"));
  return value->get<std::string>();
}

absl::StatusOr<std::vector<base::TokenId>> JsonFields::TokenIds(const std::string& key) const {
  std::vector<base::TokenId> ids;
  const Json* value = Find(key);
  if (value == nullptr) return ids;
  const auto add = [&](const Json& entry) {
    const std::optional<int64_t> id = WholeNumber(entry);
    if (id && std::in_range<base::TokenId>(*id)) ids.push_back(static_cast<base::TokenId>(*id));
    return id.has_value();  // -1 and other numbers that no token has stand for "none"
  };
  const auto add_all = [&](const Json& entry) {
    return entry.is_array() ? std::all_of(entry.begin(), entry.end(), add) : add(entry);
  };
  const bool fits = value->is_array() ? std::all_of(value->begin(), value->end(), add_all) : add(*value);
  if (!fits) return Wrong(key, absl::StrCat("is ", Shown(*value), ", but must be a token id or a list of token ids"));
  return ids;
}

}  // namespace ebbinghaus::model
