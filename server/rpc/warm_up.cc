#include "server/rpc/warm_up.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "server/metrics/metrics.h"
#include "server/rpc/grpc_server.h"
#include "server/rpc/request_conversion.h"
#include "server/rpc/service.h"

namespace ebbinghaus::rpc {
namespace {

constexpr uint32_t kNewTokens = 4;
constexpr uint32_t kPromptTokens = 48;

// Lends an engine to a scheduler that wants to own one.
class BorrowedEngine final : public base::Engine {
 public:
  explicit BorrowedEngine(base::Engine* engine) : engine_(engine) {}

  const base::ModelInfo& model() const override { return engine_->model(); }
  absl::StatusOr<base::SequenceId> Add(const base::SequenceSpec& spec) override { return engine_->Add(spec); }
  std::vector<base::StepOutcome> Step(const std::vector<base::StepItem>& plan) override { return engine_->Step(plan); }
  base::MemoryStats Stats(base::SequenceId sequence) const override { return engine_->Stats(sequence); }
  base::TokenWeights Weights(base::SequenceId sequence, uint32_t layer, base::Position begin,
                             base::Position end) const override {
    return engine_->Weights(sequence, layer, begin, end);
  }
  void Remove(base::SequenceId sequence) override { engine_->Remove(sequence); }
  uint32_t cached_prompt_tokens(base::SequenceId sequence) const override {
    return engine_->cached_prompt_tokens(sequence);
  }
  uint64_t kv_used_bytes(base::SequenceId sequence) const override { return engine_->kv_used_bytes(sequence); }
  uint64_t kv_used_bytes() const override { return engine_->kv_used_bytes(); }
  uint64_t kv_used_bytes(base::GenerationMode mode) const override { return engine_->kv_used_bytes(mode); }
  uint64_t kv_cached_bytes() const override { return engine_->kv_cached_bytes(); }
  uint64_t kv_capacity_bytes() const override { return engine_->kv_capacity_bytes(); }
  void DropCachedPrompts() override { engine_->DropCachedPrompts(); }

 private:
  base::Engine* const engine_;
};

// Any ids do: what is computed does not depend on which.
v1::GenerateRequest MakeRequest(const base::ModelInfo& model, base::GenerationMode mode, bool sampled) {
  v1::GenerateRequest request;
  const uint32_t new_tokens = std::min(kNewTokens, std::max(1u, model.context_tokens / 4));
  const uint32_t prompt = std::min(kPromptTokens, std::max(1u, model.context_tokens / 2));
  for (uint32_t i = 0; i < prompt; ++i) request.mutable_token_ids()->add_ids((i * 37 + 11) % model.vocabulary_size);
  request.set_generation_mode(ToProto(mode));
  request.set_max_new_tokens(new_tokens);
  request.set_ignore_eos(true);
  request.mutable_sampling()->set_seed(1);
  request.mutable_sampling()->set_temperature(sampled ? 0.7 : 0);
  if (sampled) request.mutable_sampling()->set_repetition_penalty(1.1);
  return request;
}

absl::Status Generate(v1::InferenceService::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  v1::GenerateResponse response;
  auto stream = stub.Generate(&context, request);
  while (stream->Read(&response)) {
  }
  grpc::Status status = stream->Finish();
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      absl::StrCat("warm-up failed: ", status.error_message()));
}

absl::Status GenerateInEveryMode(base::Engine* engine, std::shared_ptr<const text::TextModel> text, const base::Clock* clock) {
  metrics::Metrics metrics(clock);
  scheduler::Options scheduler_options;
  scheduler_options.log_requests = false;
  scheduler::Scheduler scheduler(scheduler_options, std::make_unique<BorrowedEngine>(engine), text, &metrics, clock);
  const std::unique_ptr<InferenceService> service = MakeInferenceService({}, clock);
  service->Attach(&scheduler, text);
  GrpcServerOptions options;
  options.host = "";
  absl::StatusOr<std::unique_ptr<GrpcServer>> server = GrpcServer::Start(options, service->grpc_service());
  if (!server.ok()) return server.status();
  std::unique_ptr<v1::InferenceService::Stub> stub = v1::InferenceService::NewStub((*server)->InProcessChannel());
  std::vector<v1::GenerateRequest> requests = {MakeRequest(engine->model(), base::GenerationMode::kBaseline, false)};
  for (base::GenerationMode mode : base::kAllModes) requests.push_back(MakeRequest(engine->model(), mode, true));
  for (const v1::GenerateRequest& request : requests) {
    if (absl::Status status = Generate(*stub, request); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WarmUp(base::Engine* engine, std::shared_ptr<const text::TextModel> text, const base::Clock* clock) {
  const absl::Status status = GenerateInEveryMode(engine, std::move(text), clock);
  engine->DropCachedPrompts();  // the scheduler is gone, and with it every sequence
  return status;
}

}  // namespace ebbinghaus::rpc
