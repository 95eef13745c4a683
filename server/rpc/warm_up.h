// The first answers, given before anyone asks.
#pragma once

#include <memory>

#include "absl/status/status.h"
#include "server/base/engine.h"
#include "server/scheduler/scheduler.h"
#include "server/text/text_model.h"

namespace ebbinghaus::rpc {

// Generates a few tokens, greedy and sampled, in every mode, along the whole path: gRPC (in process), admission, scheduler,
// engine, decoding. Page faults, lazily built tables and libraries' caches are then behind us, so that the first
// client's answer is as fast as the tenth's. Scheduler, metrics and server are scratch ones: nothing is counted,
// and no prompt stays cached.
// Requires: nothing else uses the engine meanwhile.
// Errors: of the first generation that fails; the engine is then not fit to serve.
absl::Status WarmUp(base::Engine* engine, std::shared_ptr<const text::TextModel> text, const base::Clock* clock);

}  // namespace ebbinghaus::rpc
