#include "server/rpc/wire_check.h"

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/message.h"
#include "google/protobuf/wire_format.h"
#include "server/text/unicode.h"

namespace ebbinghaus::rpc {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kGroup = 3, kEndGroup = 4, kFixed32 = 5 };

// Protobuf reads no tag and no length that is longer, even if it says a small number.
constexpr size_t kMaxTagBytes = 5, kMaxVarintBytes = 10;

// What one part takes: a string's or message's pointer and heap block, a map's node, a number in an array that has grown.
constexpr size_t kPointerBytes = 24, kStringBytes = 56, kMapNodeBytes = 64, kNumberBytes = 8, kUnknownBytes = 48;

class Walk {
 public:
  Walk(size_t max_parsed_bytes, base::Violations& violations) : left_(max_parsed_bytes), violations_(violations) {}

  // Where a message is: the field that holds it, and where that is.
  struct Path {
    const Path* above = nullptr;
    const FieldDescriptor* field = nullptr;
    int depth = 0;
  };

  // False once there is a violation.
  bool Message(std::string_view bytes, const Descriptor* type, const Path& path) {
    if (path.depth > kMaxMessageDepth) {
      return Fail(path, absl::StrCat("must not be nested deeper than ", kMaxMessageDepth, " messages"));
    }
    while (!bytes.empty()) {
      const std::optional<uint64_t> tag = Varint(bytes, kMaxTagBytes);
      if (!tag || *tag >> 3 == 0 || *tag > UINT32_MAX) return Malformed(path);
      const FieldDescriptor* field = type->FindFieldByNumber(static_cast<int>(*tag >> 3));
      if (!Field(bytes, static_cast<uint32_t>(*tag & 7), {&path, field, path.depth + 1})) return false;
    }
    return true;
  }

 private:
  // One field; its tag has been read. Path::field is null for a field that this type does not have.
  bool Field(std::string_view& bytes, uint32_t wire_type, const Path& path) {
    std::string_view value;
    switch (wire_type) {
      case kVarint:
        if (!Varint(bytes, kMaxVarintBytes)) return Malformed(path);
        break;
      case kFixed64:
      case kFixed32:
        if (!Take(bytes, wire_type == kFixed64 ? 8 : 4)) return Malformed(path);
        break;
      case kBytes: {
        const std::optional<uint64_t> size = Varint(bytes, kMaxTagBytes);
        if (!size || *size > bytes.size()) return Malformed(path);
        value = bytes.substr(0, static_cast<size_t>(*size));
        bytes.remove_prefix(value.size());
        break;
      }
      default:
        return Malformed(path);  // groups, which proto3 has not
    }
    if (path.field == nullptr || !Takes(*path.field, wire_type)) return Spend(kUnknownBytes + value.size(), path);
    return wire_type == kBytes ? Value(value, path) : Spend(path.field->is_repeated() ? kNumberBytes : 0, path);
  }

  // What a field does not take is kept as an unknown field.
  static bool Takes(const FieldDescriptor& field, uint32_t wire_type) {
    if (wire_type == kBytes && field.is_packable()) return true;
    return static_cast<uint32_t>(google::protobuf::internal::WireFormat::WireTypeForFieldType(field.type())) == wire_type;
  }

  bool Value(std::string_view value, const Path& path) {
    const FieldDescriptor& field = *path.field;
    if (field.is_map()) return Spend(kMapNodeBytes, path) && Message(value, field.message_type(), path);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      return Spend(kPointerBytes + SizeOf(field.message_type()), path) && Message(value, field.message_type(), path);
    }
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_STRING) {
      const std::optional<size_t> numbers = Numbers(value, field);
      return numbers ? Spend(*numbers * kNumberBytes, path) : Malformed(path);
    }
    if (field.type() == FieldDescriptor::TYPE_STRING && !text::IsValidUtf8(value)) return Fail(path, "must be valid UTF-8");
    return Spend(kStringBytes + value.size(), path);
  }

  // How many a packed field holds; none if the last one has no end.
  static std::optional<size_t> Numbers(std::string_view value, const FieldDescriptor& field) {
    const auto of_size = [&](size_t bytes) {
      return value.size() % bytes == 0 ? std::optional<size_t>(value.size() / bytes) : std::nullopt;
    };
    const uint32_t wire_type = google::protobuf::internal::WireFormat::WireTypeForFieldType(field.type());
    if (wire_type == kFixed64) return of_size(8);
    if (wire_type == kFixed32) return of_size(4);
    size_t numbers = 0;
    for (; !value.empty(); ++numbers) {
      if (!Varint(value, kMaxVarintBytes)) return std::nullopt;
    }
    return numbers;
  }

  static size_t SizeOf(const Descriptor* type) {
    const google::protobuf::Message* prototype =
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(type);
    return prototype == nullptr ? 256 : prototype->SpaceUsedLong();
  }

  bool Spend(size_t bytes, const Path& path) {
    if (bytes <= left_) {
      left_ -= bytes;
      return true;
    }
    return Fail(path, "has more parts than a request may have: it would take far more memory than its text or ids do");
  }

  static std::optional<uint64_t> Varint(std::string_view& bytes, size_t max_bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size() && i < max_bytes; ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i]);
      value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) {
        bytes.remove_prefix(i + 1);
        return value;
      }
    }
    return std::nullopt;
  }

  static bool Take(std::string_view& bytes, size_t count) {
    if (bytes.size() < count) return false;
    bytes.remove_prefix(count);
    return true;
  }

  bool Malformed(const Path& path) { return Fail(path, "is not encoded as this service's .proto says"); }

  bool Fail(const Path& path, std::string description) {
    violations_.Add(Name(path), std::move(description));
    return false;
  }

  // "chat.messages.content"; of what is nested very deeply the outer end.
  static std::string Name(const Path& path) {
    constexpr int kMaxNames = 8;
    std::string name;
    for (const Path* at = &path; at != nullptr; at = at->above) {
      if (at->depth > kMaxNames || at->field == nullptr) continue;
      name = name.empty() ? at->field->name() : absl::StrCat(at->field->name(), ".", name);
    }
    return name.empty() ? "request" : name;
  }

  size_t left_;
  base::Violations& violations_;
};

}  // namespace

void CheckWire(std::string_view bytes, const Descriptor* type, size_t max_parsed_bytes, base::Violations& violations) {
  Walk(max_parsed_bytes, violations).Message(bytes, type, {});
}

}  // namespace ebbinghaus::rpc
