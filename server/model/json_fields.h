// JSON from files that nobody vouches for.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "server/base/ids.h"
#include "server/model/config_source.h"

namespace ebbinghaus::model {

using Json = nlohmann::json;

// The JSON object that `text` is. `file` is for messages.
// Errors: InvalidArgument for malformed text, invalid UTF-8, nesting deeper than 32, or anything but an object.
absl::StatusOr<Json> ParseJsonObject(const std::string& text, const std::string& file);

// A JSON object read by key; null counts as absent. Whole numbers may be written as reals (2048.0), true and false as 1
// and 0. `prefix` is put before keys in messages ("rope_scaling.").
// The object must outlive this.
class JsonFields final : public ConfigSource {
 public:
  JsonFields(const Json& object, std::string file, std::string prefix = "")
      : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {}

  absl::StatusOr<std::optional<int64_t>> Integer(const std::string& key) const override;
  absl::StatusOr<std::optional<double>> Real(const std::string& key) const override;
  absl::StatusOr<std::optional<bool>> Flag(const std::string& key) const override;
  absl::StatusOr<std::optional<std::string>> Text(const std::string& key) const override;
  absl::Status Wrong(const std::string& key, const std::string& what) const override;

  // nullptr when absent or null.
  const Json* Find(const std::string& key) const;
  // There, be it null.
  bool Contains(const std::string& key) const { return object_.contains(key); }
  // An id, a list of ids, or lists of them in a list; empty when absent. Numbers that cannot be ids, such as -1, are left out.
  absl::StatusOr<std::vector<base::TokenId>> TokenIds(const std::string& key) const;

 private:
  const Json& object_;
  const std::string file_, prefix_;
};

}  // namespace ebbinghaus::model
