#include "client/json.h"

#include <string>

#include "google/protobuf/util/json_util.h"

namespace ebbinghaus::client {

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) return Json{{"error", "a message has no JSON form"}};
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string Line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace ebbinghaus::client
