// Protobuf messages as JSON, with the proto's own field names.
#pragma once

#include "absl/status/statusor.h"
#include "google/protobuf/message.h"
#include "nlohmann/json.hpp"

namespace ebbinghaus::client {

using Json = nlohmann::ordered_json;

// As protobuf's JSON mapping says (64-bit integers are strings, bytes are base64, durations are
// "1.5s"); fields without presence are there even when zero.
Json ToJson(const google::protobuf::Message& message);

// On one line, or indented on many. Whatever is not UTF-8 is replaced; control characters are
// escaped, those that JSON would let stand (U+007F to U+009F) too, so that a terminal may show it.
std::string Line(const Json& json);
std::string Indented(const Json& json);

}  // namespace ebbinghaus::client
