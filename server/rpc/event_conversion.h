// From the scheduler's events to the proto's messages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ebbinghaus/v1/inference.pb.h"
#include "server/scheduler/event.h"

namespace ebbinghaus::rpc {

// No message of a stream is larger (clients refuse more than 4 MiB by default).
inline constexpr size_t kMaxMessageBytes = 1 << 20;

// Turns one stream's events into messages of at most `max_message_bytes`. Attention rows that do not fit into their
// token's message, token weights and long lists of forget events are cut into several memory events that follow.
// One per stream, since it counts the tokens. Not thread safe.
class EventConverter {
 public:
  explicit EventConverter(size_t max_message_bytes = kMaxMessageBytes);

  // In the order to send. Requires: the event is no absl::Status.
  std::vector<v1::GenerateResponse> Convert(const scheduler::Event& event);

 private:
  std::vector<v1::GenerateResponse> ConvertToken(const scheduler::TokenEvent& event);
  std::vector<v1::GenerateResponse> ConvertMemory(const scheduler::MemoryEvent& event);

  const size_t max_message_bytes_;
  uint32_t next_step_ = 0;  // the step whose pass samples the next token (memory-spec 2.2)
};

// The parameters in force, as `started` reports them. logit_bias and pinned ranges are left out, in that order, where
// the message would be larger than max_message_bytes with them: they came from the client and are as it sent them.
v1::Started ToProto(const scheduler::Started& started, size_t max_message_bytes = kMaxMessageBytes);
v1::Finished ToProto(const scheduler::Finished& finished);

}  // namespace ebbinghaus::rpc
