#include "server/scheduler/event.h"

namespace ebbinghaus::scheduler {
namespace {

template <typename T>
size_t Bytes(const std::vector<T>& values) {
  return values.size() * sizeof(T);
}

size_t Payload(const Started& started) { return started.request_id.size() + started.model.size(); }

size_t Payload(const TokenEvent& event) {
  size_t bytes = event.text.size() + event.raw.size() + Bytes(event.token.candidates);
  for (const base::AttentionRow& row : event.token.attention) {
    bytes += sizeof(row) + Bytes(row.positions) + Bytes(row.weights);
  }
  return bytes;
}

size_t Payload(const MemoryEvent& event) {
  size_t bytes = Bytes(event.forgotten);
  if (event.snapshot) bytes += Bytes(event.snapshot->layers);
  for (const base::TokenWeights& weights : event.token_weights) {
    bytes += sizeof(weights) + Bytes(weights.positions) + Bytes(weights.retention) + Bytes(weights.strength) +
             Bytes(weights.time) + Bytes(weights.forgotten_step);
  }
  return bytes;
}

size_t Payload(const Finished& finished) { return finished.matched_stop.size() + Bytes(finished.memory.layers); }

size_t Payload(const absl::Status& status) { return status.message().size(); }

}  // namespace

size_t SizeBytes(const Event& event) {
  return sizeof(Event) + std::visit([](const auto& alternative) { return Payload(alternative); }, event);
}

}  // namespace ebbinghaus::scheduler
