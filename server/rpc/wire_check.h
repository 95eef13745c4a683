// What a message will cost once it is parsed, found by walking its bytes before anything is built from them.
#pragma once

#include <cstddef>
#include <string_view>

#include "google/protobuf/descriptor.h"
#include "server/base/violations.h"

namespace ebbinghaus::rpc {

inline constexpr int kMaxMessageDepth = 96;  // below the 100 at which protobuf gives up without a word

// Adds a violation, under the proto field path, for the first thing found that must not be parsed: bytes that are no message
// of this type, text that is not UTF-8, messages nested too deeply, groups, or more parts than `max_parsed_bytes` would hold
// (two bytes on the wire may be a hundred in memory). Memory is a lower bound that is right within a factor of two. Takes
// time in proportion to the bytes and no memory.
void CheckWire(std::string_view bytes, const google::protobuf::Descriptor* type, size_t max_parsed_bytes,
               base::Violations& violations);

}  // namespace ebbinghaus::rpc
