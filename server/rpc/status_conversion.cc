#include "server/rpc/status_conversion.h"

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>

#include "google/protobuf/any.pb.h"
#include "google/protobuf/duration.pb.h"
#include "server/base/retry.h"

namespace ebbinghaus::rpc {
namespace {

// Below the 8 KiB of metadata that clients accept by default, which count the other headers too.
constexpr size_t kMaxMetadataBytes = 7 * 1024;

// google.rpc's messages are three short ones; writing their wire format here saves a copy of their .proto files.
// Source: googleapis google/rpc/status.proto and error_details.proto.
class MessageWriter {
 public:
  MessageWriter& Bytes(uint32_t field, std::string_view value) {
    Varint(field << 3 | 2);
    Varint(value.size());
    bytes_.append(value);
    return *this;
  }
  MessageWriter& Number(uint32_t field, uint64_t value) {
    Varint(field << 3);
    Varint(value);
    return *this;
  }
  std::string Take() { return std::move(bytes_); }

 private:
  void Varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

std::string Any(std::string_view type, std::string value) {
  google::protobuf::Any any;
  any.set_type_url("type.googleapis.com/google.rpc." + std::string(type));
  any.set_value(std::move(value));
  return any.SerializeAsString();
}

// google.rpc.Status {int32 code = 1; string message = 2; repeated Any details = 3}
std::string RpcStatus(const absl::Status& status, std::string_view message, std::string_view detail) {
  MessageWriter writer;
  writer.Number(1, static_cast<uint64_t>(status.code())).Bytes(2, message).Bytes(3, detail);
  return writer.Take();
}

// google.rpc.BadRequest {repeated FieldViolation {string field = 1; string description = 2} field_violations = 1}
std::string BadRequest(const base::Violations& violations, size_t count) {
  MessageWriter request;
  for (size_t i = 0; i < count; ++i) {
    MessageWriter violation;
    violation.Bytes(1, violations.all()[i].field).Bytes(2, violations.all()[i].description);
    request.Bytes(1, violation.Take());
  }
  return Any("BadRequest", request.Take());
}

// google.rpc.RetryInfo {google.protobuf.Duration retry_delay = 1}
std::string RetryInfo(std::chrono::milliseconds delay) {
  google::protobuf::Duration duration;
  duration.set_seconds(delay.count() / 1000);
  duration.set_nanos(static_cast<int32_t>(delay.count() % 1000) * 1'000'000);
  MessageWriter writer;
  writer.Bytes(1, duration.SerializeAsString());
  return Any("RetryInfo", writer.Take());
}

// How long grpc-message gets: bytes outside printable ASCII, and '%', are written as %XX.
size_t EncodedMessageBytes(std::string_view message) {
  size_t size = 0;
  for (unsigned char c : message) size += c < 0x20 || c > 0x7e || c == '%' ? 3 : 1;
  return size;
}

// The longest head of the message whose encoding fits, cut between characters.
std::string_view Head(std::string_view message, size_t encoded_bytes) {
  while (EncodedMessageBytes(message) > encoded_bytes) {
    size_t cut = message.size() - std::max<size_t>(1, (EncodedMessageBytes(message) - encoded_bytes) / 3);
    while (cut > 0 && (static_cast<unsigned char>(message[cut]) & 0xc0) == 0x80) --cut;
    message = message.substr(0, cut);
  }
  return message;
}

bool Fits(std::string_view message, std::string_view details) {
  return EncodedMessageBytes(message) + details.size() * 4 / 3 <= kMaxMetadataBytes;  // details travel as base64
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status, const base::Violations& violations) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());  // absl's codes are gRPC's
  std::string_view whole(status.message().data(), status.message().size());
  const std::string message(Head(whole, kMaxMetadataBytes));
  std::string details;
  if (const auto delay = base::RetryDelay(status)) details = RpcStatus(status, message, RetryInfo(*delay));
  // As many violations as fit, the first ones first.
  for (size_t count = std::min<size_t>(violations.all().size(), 16); count > 0 && details.empty(); --count) {
    std::string candidate = RpcStatus(status, message, BadRequest(violations, count));
    if (Fits(message, candidate)) details = std::move(candidate);
  }
  if (!Fits(message, details)) details.clear();
  return {code, message, details};
}

}  // namespace ebbinghaus::rpc
