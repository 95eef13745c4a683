#include "client/json.h"

#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "client/utf8.h"
#include "google/protobuf/util/json_util.h"

namespace ebbinghaus::client {
namespace {

std::string Dump(const Json& json, int indent) {
  const std::string dumped = json.dump(indent, ' ', false, Json::error_handler_t::replace);
  std::string text;
  text.reserve(dumped.size());
  for (std::string_view rest = dumped; !rest.empty();) {
    const std::string_view before = rest;
    const char32_t c = TakeCodePoint(rest);
    if (c >= 0x7F && c < 0xA0) {  // occurs within strings only
      absl::StrAppendFormat(&text, "\\u%04x", static_cast<unsigned>(c));
    } else {
      text += before.substr(0, before.size() - rest.size());
    }
  }
  return text;
}

}  // namespace

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(message, &text, options);
  if (!status.ok()) return Json{{"error", "a message has no JSON form"}};
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

std::string Line(const Json& json) { return Dump(json, -1); }
std::string Indented(const Json& json) { return Dump(json, 2); }

}  // namespace ebbinghaus::client
