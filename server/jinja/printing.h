// Values as text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/jinja/heap.h"
#include "server/jinja/value.h"

namespace ebbinghaus::jinja {

// Python's str() and repr(). Errors: InvalidArgument for objects whose text would be an address;
// ResourceExhausted.
absl::StatusOr<Text> Str(const Value& value, Budget& budget);
absl::StatusOr<Text> Repr(const Value& value, Budget& budget, bool sort_keys = false);
// Python's ascii(): a repr with escapes for what is not ASCII.
Text Ascii(const Text& repr);

struct JsonStyle {
  bool ensure_ascii = false;
  std::optional<Text> indent;  // of one level; nothing: all on one line
  Text item_separator, key_separator;
  bool sort_keys = false;
};
// Python's json.dumps. Errors: InvalidArgument for what JSON cannot hold.
absl::StatusOr<Text> Json(const Value& value, const JsonStyle& style, Runtime& runtime);

// Python's repr of a float.
std::string FloatText(double value);

}  // namespace ebbinghaus::jinja
