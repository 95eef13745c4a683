// One Generate call from its first to its last event.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/connection.h"
#include "ebbinghaus/v1/inference.pb.h"

namespace ebbinghaus::client {

// A generation that ended well, with times as the client saw them.
struct Generation {
  v1::Started started;
  v1::Finished finished;
  std::string text;
  std::vector<uint32_t> token_ids;
  absl::Duration time_to_first_token;  // from the call's start
  absl::Duration total_time;           // until the call ended
};

// Called for every event as it arrives; a status that is not OK cancels the call and becomes its
// result.
using EventSink = std::function<absl::Status(const v1::GenerateResponse&)>;

// Errors: the server's; Internal if the stream ends well but without `finished`; the sink's.
absl::StatusOr<Generation> RunGeneration(Connection& connection, const v1::GenerateRequest& request,
                                         const EventSink& sink);

}  // namespace ebbinghaus::client
