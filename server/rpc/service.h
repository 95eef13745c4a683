// The inference service over gRPC's callback interface.
#pragma once

#include <memory>
#include <string>

#include "server/base/clock.h"
#include "server/base/generation.h"
#include "server/memory/parameters.h"
#include "server/rpc/authenticator.h"
#include "server/scheduler/scheduler.h"
#include "server/text/text_model.h"

namespace grpc {
class Service;
}

namespace ebbinghaus::rpc {

// What GetServerStatus reports beside the scheduler's state.
struct ServerFacts {
  std::string version;
  base::GenerationMode default_mode = base::GenerationMode::kBaseline;
  memory::Preset default_preset = memory::Preset::kDefault;
  uint32_t threads = 0;
};

// Everything handed in must outlive the service, and the service the gRPC server it is registered with. Thread safe.
std::shared_ptr<grpc::Service> MakeInferenceService(scheduler::Scheduler* scheduler,
                                                    std::shared_ptr<const text::TextModel> text, ServerFacts facts,
                                                    const base::Clock* clock, Authenticator authenticator = {});

}  // namespace ebbinghaus::rpc
