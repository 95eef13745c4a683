// A checkpoint's configuration as keys and values, whatever the format of its file.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace ebbinghaus::model {

// Absent keys give nullopt. Errors: InvalidArgument naming the file and the key whose value has the wrong type.
class ConfigSource {
 public:
  virtual ~ConfigSource() = default;
  virtual absl::StatusOr<std::optional<int64_t>> Integer(const std::string& key) const = 0;
  virtual absl::StatusOr<std::optional<double>> Real(const std::string& key) const = 0;
  virtual absl::StatusOr<std::optional<bool>> Flag(const std::string& key) const = 0;
  virtual absl::StatusOr<std::optional<std::string>> Text(const std::string& key) const = 0;
  // InvalidArgument "<file>: <key> <what>".
  virtual absl::Status Wrong(const std::string& key, const std::string& what) const = 0;
};

// Reads many keys and keeps the first error, so that the reading code is a plain list. A key that is absent leaves its target
// as it was. The source must outlive the reader.
class ConfigReader {
 public:
  explicit ConfigReader(const ConfigSource& source) : source_(source) {}

  template <std::integral Int>
    requires(!std::same_as<Int, bool>)
  bool Read(const std::string& key, Int& target) {
    return Take(source_.Integer(key), [&](int64_t value) {
      if (std::in_range<Int>(value)) {
        target = static_cast<Int>(value);
      } else {
        using Limits = std::numeric_limits<Int>;
        Fail(source_.Wrong(key, absl::StrCat("is ", value, ", but must be in [", Limits::min(), ", ", Limits::max(), "]")));
      }
    });
  }
  bool Read(const std::string& key, double& target) {
    return Take(source_.Real(key), [&](double value) { target = value; });
  }
  bool Read(const std::string& key, bool& target) {
    return Take(source_.Flag(key), [&](bool value) { target = value; });
  }
  bool Read(const std::string& key, std::string& target) {
    return Take(source_.Text(key), [&](std::string& value) { target = std::move(value); });
  }
  // An absent key is an error.
  template <typename T>
  void Require(const std::string& key, T& target) {
    if (!Read(key, target) && status_.ok()) Fail(source_.Wrong(key, "is missing"));
  }

  void Fail(absl::Status status) { status_.Update(std::move(status)); }
  const absl::Status& status() const { return status_; }

 private:
  // Whether the key was there.
  template <typename T, typename Store>
  bool Take(absl::StatusOr<std::optional<T>> value, Store store) {
    if (!value.ok()) {
      Fail(std::move(value).status());
      return false;
    }
    if (*value) store(**value);
    return value->has_value();
  }

  const ConfigSource& source_;
  absl::Status status_;
};

}  // namespace ebbinghaus::model
