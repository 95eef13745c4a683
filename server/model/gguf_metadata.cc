#include <utility>

#include "absl/strings/str_cat.h"
#include "server/model/gguf.h"

namespace ebbinghaus::model {

const GgufValue* GgufMetadata::Find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

absl::Status GgufMetadata::Wrong(const std::string& key, const std::string& what) const {
  return absl::InvalidArgumentError(absl::StrCat("GGUF: ", key, " ", what));
}

absl::StatusOr<std::optional<int64_t>> GgufMetadata::Integer(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  const auto* number = std::get_if<uint64_t>(value);
  if (number == nullptr) return Wrong(key, "must be one whole number");
  if (!std::in_range<int64_t>(*number)) return Wrong(key, "is out of range");
  return static_cast<int64_t>(*number);
}

absl::StatusOr<std::optional<double>> GgufMetadata::Real(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto* number = std::get_if<double>(value);
  if (number == nullptr) return Wrong(key, "must be one real number");
  return *number;
}

absl::StatusOr<std::optional<bool>> GgufMetadata::Flag(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto* flag = std::get_if<bool>(value);
  if (flag == nullptr) return Wrong(key, "must be true or false");
  return *flag;
}

absl::StatusOr<std::optional<std::string>> GgufMetadata::Text(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const auto* text = std::get_if<std::string>(value);
  if (text == nullptr) return Wrong(key, "must be a string");
  return *text;
}

template <typename Element>
absl::StatusOr<std::vector<Element>> GgufMetadata::TakeList(const std::string& key) {
  const auto found = values_.find(key);
  if (found == values_.end()) return std::vector<Element>();
  auto* list = std::get_if<std::vector<Element>>(&found->second);
  if (list == nullptr) return Wrong(key, "must be a list of another kind");
  return std::exchange(*list, {});
}
template absl::StatusOr<std::vector<int64_t>> GgufMetadata::TakeList(const std::string&);
template absl::StatusOr<std::vector<double>> GgufMetadata::TakeList(const std::string&);
template absl::StatusOr<std::vector<std::string>> GgufMetadata::TakeList(const std::string&);

}  // namespace ebbinghaus::model
