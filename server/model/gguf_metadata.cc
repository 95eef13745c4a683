#include <cmath>
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

namespace {

// What is read as one number, whichever way converters wrote it: an integer or a real of any width, or a list (one entry per
// layer, where a model's layers may differ) of which all entries are alike. Integers stay exact.
using Number = std::variant<int64_t, uint64_t, double>;

struct ToNumber {
  absl::StatusOr<Number> operator()(int64_t value) const { return Number(value); }
  absl::StatusOr<Number> operator()(uint64_t value) const { return Number(value); }
  absl::StatusOr<Number> operator()(double value) const { return Number(value); }
  absl::StatusOr<Number> operator()(const std::vector<int64_t>& list) const { return Only(list); }
  absl::StatusOr<Number> operator()(const std::vector<double>& list) const { return Only(list); }
  absl::StatusOr<Number> operator()(bool) const { return Not("true or false"); }
  absl::StatusOr<Number> operator()(const std::string&) const { return Not("a string"); }
  absl::StatusOr<Number> operator()(const std::vector<std::string>&) const { return Not("a list of strings"); }

 private:
  static absl::Status Not(const char* what) {
    return absl::InvalidArgumentError(absl::StrCat("is ", what, ", but must be a number"));
  }
  template <typename T>
  static absl::StatusOr<Number> Only(const std::vector<T>& list) {
    if (list.empty()) return Not("an empty list");
    for (const T entry : list) {
      if (entry == list.front()) continue;
      return absl::InvalidArgumentError(absl::StrCat("is a list of different numbers (", list.front(), ", ", entry,
                                                     ", ...); layers that differ are not supported"));
    }
    return Number(list.front());
  }
};

std::optional<int64_t> WholeNumber(const Number& number) {
  constexpr double kExact = 1ull << 53;
  if (const auto* value = std::get_if<int64_t>(&number)) return *value;
  if (const auto* value = std::get_if<uint64_t>(&number)) {
    return std::in_range<int64_t>(*value) ? std::optional<int64_t>(*value) : std::nullopt;
  }
  const double value = std::get<double>(number);
  if (!(value >= -kExact && value <= kExact) || value != std::floor(value)) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::string NumberText(const Number& number) {
  return std::visit([](auto value) { return absl::StrCat(value); }, number);
}

}  // namespace

absl::StatusOr<std::optional<int64_t>> GgufMetadata::Integer(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const absl::StatusOr<Number> number = std::visit(ToNumber(), *value);
  if (!number.ok()) return Wrong(key, std::string(number.status().message()));
  const std::optional<int64_t> whole = WholeNumber(*number);
  if (!whole) return Wrong(key, absl::StrCat("is ", NumberText(*number), ", but must be a whole number below 2^63"));
  return whole;
}

absl::StatusOr<std::optional<double>> GgufMetadata::Real(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  const absl::StatusOr<Number> number = std::visit(ToNumber(), *value);
  if (!number.ok()) return Wrong(key, std::string(number.status().message()));
  return std::visit([](auto given) { return static_cast<double>(given); }, *number);
}

absl::StatusOr<std::optional<bool>> GgufMetadata::Flag(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  const absl::StatusOr<Number> number = std::visit(ToNumber(), *value);
  const std::optional<int64_t> whole = number.ok() ? WholeNumber(*number) : std::nullopt;
  if (whole == 0 || whole == 1) return whole == 1;
  return Wrong(key, "must be true or false");
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
  if constexpr (std::is_same_v<Element, double>) {
    if (const auto* integers = std::get_if<std::vector<int64_t>>(&found->second)) {
      return std::vector<double>(integers->begin(), integers->end());
    }
  }
  auto* list = std::get_if<std::vector<Element>>(&found->second);
  if (list == nullptr) return Wrong(key, "must be a list of another kind");
  return std::exchange(*list, {});
}
template absl::StatusOr<std::vector<int64_t>> GgufMetadata::TakeList(const std::string&);
template absl::StatusOr<std::vector<double>> GgufMetadata::TakeList(const std::string&);
template absl::StatusOr<std::vector<std::string>> GgufMetadata::TakeList(const std::string&);

}  // namespace ebbinghaus::model
