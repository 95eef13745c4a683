// JSON as values of the template language.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "server/jinja/value.h"

namespace ebbinghaus::testing {

inline jinja::Value JsonValue(const nlohmann::ordered_json& json, bool from_caller = false) {
  using jinja::Value;
  if (json.is_boolean()) return Value(json.get<bool>());
  if (json.is_number_integer()) return Value(json.get<int64_t>());
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_string()) return Value(jinja::Text(json.get<std::string>(), from_caller));
  if (json.is_array()) {
    jinja::List list;
    for (const auto& item : json) list.push_back(JsonValue(item, from_caller));
    return Value::Of(std::move(list));
  }
  if (json.is_object()) {
    jinja::Dict dict;
    for (const auto& [key, item] : json.items()) {
      dict.Set(Value(jinja::Text(key, from_caller)), JsonValue(item, from_caller));
    }
    return Value::Of(std::move(dict));
  }
  return Value(jinja::None{});
}

}  // namespace ebbinghaus::testing
