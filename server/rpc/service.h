// The inference service over gRPC's callback interface.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/base/clock.h"
#include "server/base/generation.h"
#include "server/memory/parameters.h"
#include "server/metrics/metrics.h"
#include "server/rpc/authenticator.h"
#include "server/rpc/request_gate.h"
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
  std::function<std::string()> state;  // "loading", "serving", "draining", ...; unset: the scheduler's
};

// The service can be there before the model is: until Attach every call is refused as Unavailable.
// Thread safe.
class InferenceService {
 public:
  virtual ~InferenceService() = default;

  // Must outlive the gRPC server that it is registered with; lives in this object.
  virtual grpc::Service* grpc_service() = 0;
  // What lets messages in; others on the same port must ask it too. Lives in this object.
  virtual RequestGate* gate() = 0;

  // What there is to serve, from now on. Once. Both must outlive the calls.
  virtual void Attach(scheduler::Scheduler* scheduler, std::shared_ptr<const text::TextModel> text) = 0;

  // Returns once all that calls had to send has been handed to the network: true; or after `timeout`: false.
  // A call that is refused counts only while it is looked at.
  virtual bool WaitForAnswers(base::Duration timeout) = 0;
};

// `clock` and `metrics`, which may be null, must outlive the service.
std::unique_ptr<InferenceService> MakeInferenceService(ServerFacts facts, const base::Clock* clock,
                                                       Authenticator authenticator = {},
                                                       metrics::Metrics* metrics = nullptr);

}  // namespace ebbinghaus::rpc
