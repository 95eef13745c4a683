#include "client/memory_flag.h"

#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/generated_enum_reflection.h"

namespace ebbinghaus::client {
namespace {

using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;

absl::Status Expected(absl::string_view key, absl::string_view what, absl::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat(key, " takes ", what, ", got '", got, "'"));
}

// "PerLayerThing" -> "PER_LAYER_THING_": the prefix that buf's style gives every value of an enum.
std::string ValuePrefix(const EnumDescriptor& type) {
  std::string prefix;
  for (char c : type.name()) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_toupper(static_cast<unsigned char>(c));
  }
  return prefix + "_";
}

std::string WithoutPrefix(const EnumDescriptor& type, absl::string_view value_name) {
  const std::string prefix = ValuePrefix(type);
  if (value_name.substr(0, prefix.size()) == prefix) value_name.remove_prefix(prefix.size());
  return absl::AsciiStrToLower(value_name);
}

absl::Status ParsePinned(absl::string_view value, v1::MemoryParameters& memory) {
  const std::vector<absl::string_view> ends = absl::StrSplit(value, absl::MaxSplits('-', 1));
  uint32_t begin = 0, end = 0;
  if (ends.size() != 2 || !absl::SimpleAtoi(ends[0], &begin) || !absl::SimpleAtoi(ends[1], &end)) {
    return Expected("pinned", "positions begin-end (end excluded), such as 0-16", value);
  }
  v1::TokenRange* range = memory.add_pinned();
  range->set_begin(begin);
  range->set_end(end);
  return absl::OkStatus();
}

absl::Status SetField(const FieldDescriptor& field, absl::string_view value,
                      v1::MemoryParameters& memory) {
  const google::protobuf::Reflection& reflection = *memory.GetReflection();
  if (field.is_repeated()) return ParsePinned(value, memory);
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    auto number = ParseEnum(*field.enum_type(), std::string_view(value.data(), value.size()));
    if (!number.ok())
      return absl::InvalidArgumentError(absl::StrCat(field.name(), " ", number.status().message()));
    reflection.SetEnumValue(&memory, &field, *number);
    return absl::OkStatus();
  }
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
    double number = 0;
    if (!absl::SimpleAtod(value, &number)) return Expected(field.name(), "a number", value);
    reflection.SetDouble(&memory, &field, number);
    return absl::OkStatus();
  }
  uint32_t count = 0;
  if (!absl::SimpleAtoi(value, &count))
    return Expected(field.name(), "a whole number from 0", value);
  reflection.SetUInt32(&memory, &field, count);
  return absl::OkStatus();
}

std::string AllKeys(const google::protobuf::Descriptor& type) {
  std::vector<std::string> keys;
  for (int i = 0; i < type.field_count(); ++i) keys.push_back(type.field(i)->name());
  return absl::StrJoin(keys, ", ");
}

}  // namespace

absl::Status ParseMemory(std::string_view text, v1::MemoryParameters& memory) {
  const google::protobuf::Descriptor& type = *v1::MemoryParameters::descriptor();
  for (absl::string_view entry : absl::StrSplit(absl::string_view(text.data(), text.size()), ',')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(entry, absl::MaxSplits('=', 1));
    const std::string key(absl::StripAsciiWhitespace(parts[0]));
    const FieldDescriptor* field = type.FindFieldByName(key);
    if (field == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("no memory parameter '", key, "'; there are ", AllKeys(type)));
    }
    if (parts.size() != 2)
      return absl::InvalidArgumentError(absl::StrCat(key, " needs a value: ", key, "=..."));
    absl::Status status = SetField(*field, absl::StripAsciiWhitespace(parts[1]), memory);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

std::string FormatMemory(const v1::MemoryParameters& memory) {
  std::vector<const FieldDescriptor*> fields;
  const google::protobuf::Reflection& reflection = *memory.GetReflection();
  reflection.ListFields(memory, &fields);
  std::vector<std::string> entries;
  for (const FieldDescriptor* field : fields) {
    if (field->is_repeated()) {
      for (const v1::TokenRange& range : memory.pinned()) {
        entries.push_back(absl::StrCat(field->name(), "=", range.begin(), "-", range.end()));
      }
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      const int number = reflection.GetEnumValue(memory, field);
      entries.push_back(absl::StrCat(field->name(), "=", ShortName(*field->enum_type(), number)));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
      entries.push_back(absl::StrCat(field->name(), "=", reflection.GetDouble(memory, field)));
    } else {
      entries.push_back(absl::StrCat(field->name(), "=", reflection.GetUInt32(memory, field)));
    }
  }
  return absl::StrJoin(entries, ",");
}

absl::StatusOr<int> ParseEnum(const EnumDescriptor& type, std::string_view short_name) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) {
    const google::protobuf::EnumValueDescriptor& value = *type.value(i);
    if (value.number() == 0) continue;  // UNSPECIFIED: leave the flag out instead
    names.push_back(WithoutPrefix(type, value.name()));
    if (names.back() == short_name) return value.number();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("takes one of ", absl::StrJoin(names, ", "), ", got '",
                   absl::string_view(short_name.data(), short_name.size()), "'"));
}

std::string ShortName(const EnumDescriptor& type, int number) {
  const google::protobuf::EnumValueDescriptor* value = type.FindValueByNumber(number);
  return value == nullptr ? absl::StrCat(number) : WithoutPrefix(type, value->name());
}

std::string ShortName(v1::GenerationMode mode) {
  return ShortName(*v1::GenerationMode_descriptor(), mode);
}

std::string ShortName(v1::FinishReason reason) {
  return ShortName(*v1::FinishReason_descriptor(), reason);
}

v1::MemoryParameters MemoryForMode(v1::GenerationMode mode, const v1::MemoryParameters& memory) {
  if (mode == v1::GENERATION_MODE_BASELINE) return {};
  static const auto* const kSoftOnly =
      new std::set<std::string>{"soft_floor", "soft_ceiling", "soft_layer_ratio", "soft_form"};
  static const auto* const kBoth =
      new std::set<std::string>{"preset",          "initial_strength",   "time_step",
                                "reset_threshold", "strength_cap",       "observe_interval",
                                "prompt_ticks",    "prompt_observation", "prompt_window_tokens"};
  v1::MemoryParameters used = memory;
  const google::protobuf::Descriptor& type = *v1::MemoryParameters::descriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const std::string& name = type.field(i)->name();
    const bool soft_only = kSoftOnly->count(name) > 0;
    const bool wanted =
        kBoth->count(name) > 0 || soft_only == (mode == v1::GENERATION_MODE_SOFT_DELETE);
    if (!wanted) used.GetReflection()->ClearField(&used, type.field(i));
  }
  return used;
}

}  // namespace ebbinghaus::client
