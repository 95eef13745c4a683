#include "client/generation.h"

namespace ebbinghaus::client {
namespace {

void Record(const v1::GenerateResponse& event, absl::Duration now, Generation& generation) {
  if (event.has_started()) generation.started = event.started();
  if (event.has_finished()) generation.finished = event.finished();
  if (!event.has_token()) return;
  if (generation.token_ids.empty()) generation.time_to_first_token = now;
  generation.token_ids.push_back(event.token().id());
  generation.text += event.token().text();
}

}  // namespace

absl::StatusOr<Generation> RunGeneration(Connection& connection, const v1::GenerateRequest& request,
                                         const EventSink& sink) {
  Generation generation;
  absl::Status sunk;
  bool finished = false;
  absl::Status status = connection.Call([&](grpc::ClientContext& context) {
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] { return absl::FromChrono(std::chrono::steady_clock::now() - start); };
    auto reader = connection.inference().Generate(&context, request);
    v1::GenerateResponse event;
    while (reader->Read(&event)) {
      Record(event, elapsed(), generation);
      finished = finished || event.has_finished();
      if (sunk.ok()) sunk = sink(event);
      if (!sunk.ok()) context.TryCancel();
    }
    grpc::Status result = reader->Finish();
    generation.total_time = elapsed();
    return result;
  });
  if (!sunk.ok()) return sunk;
  if (!status.ok()) return status;
  if (!finished)
    return absl::InternalError("the server ended the stream without a `finished` event");
  return generation;
}

}  // namespace ebbinghaus::client
