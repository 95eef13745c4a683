// The reactors of the two generating calls: what joins a gRPC call to its mailbox.
#pragma once

#include <memory>

#include "ebbinghaus/v1/inference.pb.h"
#include "grpcpp/support/server_callback.h"
#include "server/scheduler/mailbox.h"

namespace ebbinghaus::rpc {

// Streams the mailbox's events, one write at a time: while the client does not read, events stay in the mailbox, which
// fills up and so pauses this sequence alone; when the mailbox is abandoned, the call is cancelled. The client's cancellation
// is passed on to the mailbox at once. `underway` is held until all that there is to send has been handed to the network.
// Owns itself.
grpc::ServerWriteReactor<v1::GenerateResponse>* StreamEvents(grpc::CallbackServerContext* context,
                                                               std::shared_ptr<scheduler::Mailbox> mailbox,
                                                               std::shared_ptr<void> underway = nullptr);

// Gathers the mailbox's events into one answer. `response` belongs to the call; `underway` as above. Owns itself.
grpc::ServerUnaryReactor* CollectEvents(std::shared_ptr<scheduler::Mailbox> mailbox, v1::CompleteResponse* response,
                                        std::shared_ptr<void> underway = nullptr);

// Ends a streaming call with an error before anything was sent. Owns itself.
template <typename Response>
grpc::ServerWriteReactor<Response>* RejectStream(const grpc::Status& status) {
  class Rejected final : public grpc::ServerWriteReactor<Response> {
   public:
    explicit Rejected(const grpc::Status& status) { this->Finish(status); }
    void OnDone() override { delete this; }
  };
  return new Rejected(status);
}

}  // namespace ebbinghaus::rpc
