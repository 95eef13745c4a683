// What joins a generating call to its mailbox.
#pragma once

#include <memory>

#include "server/rpc/incoming_call.h"
#include "server/scheduler/mailbox.h"

namespace ebbinghaus::rpc {

// Streams the mailbox's events, one write at a time: while the client does not read, events stay in the mailbox, which
// fills up and so pauses this sequence alone; when the mailbox is abandoned, the call is cancelled. The client's cancellation
// is passed on to the mailbox at once.
void StreamEvents(const std::shared_ptr<IncomingCall>& call, std::shared_ptr<scheduler::Mailbox> mailbox);

// Gathers the mailbox's events into one answer, a v1::CompleteResponse.
void CollectEvents(const std::shared_ptr<IncomingCall>& call, std::shared_ptr<scheduler::Mailbox> mailbox);

}  // namespace ebbinghaus::rpc
