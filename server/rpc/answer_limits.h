// How large an answer may be.
#pragma once

#include <cstddef>

namespace ebbinghaus::rpc {

// gRPC's clients refuse messages above 4 MiB unless told otherwise; what stands beside texts and ids needs room too. (A stream's
// messages are smaller: kMaxMessageBytes in event_conversion.h.)
inline constexpr size_t kMaxAnswerBytes = (4u << 20) - (1u << 20) - (64u << 10);
inline constexpr size_t kMaxIdBytes = 5;  // of a token id in a packed field

}  // namespace ebbinghaus::rpc
