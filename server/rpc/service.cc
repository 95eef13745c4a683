#include "server/rpc/service.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "server/base/retry.h"
#include "server/rpc/call_reactors.h"
#include "server/rpc/calls_underway.h"
#include "server/rpc/request_conversion.h"
#include "server/rpc/status_conversion.h"
#include "server/scheduler/prompt_reader.h"

namespace ebbinghaus::rpc {
namespace {

// A client that retries by itself waits this long.
constexpr char kRetryPushback[] = "grpc-retry-pushback-ms";

// gRPC counts in wall time, we in steady time; the difference between two clocks read now is good enough.
std::optional<base::TimePoint> Deadline(const grpc::CallbackServerContext& context, base::TimePoint now) {
  if (context.deadline() == std::chrono::system_clock::time_point::max()) return std::nullopt;
  auto left = context.deadline() - std::chrono::system_clock::now();
  return now + std::chrono::duration_cast<base::Duration>(left);
}

const char* Name(scheduler::Status::State state) {
  switch (state) {
    case scheduler::Status::State::kServing: return "serving";
    case scheduler::Status::State::kDraining: return "draining";
    case scheduler::Status::State::kStopped: return "stopped";
  }
  return "";
}

grpc::Status StillLoading() { return {grpc::StatusCode::UNAVAILABLE, "the model is being loaded; retry later"}; }

// What there is once the model is loaded.
struct Backend {
  scheduler::Scheduler* scheduler;
  std::shared_ptr<const text::TextModel> text;
  scheduler::PromptReader reader;
};

class Service final : public InferenceService, private v1::InferenceService::CallbackService {
 public:
  Service(ServerFacts facts, const base::Clock* clock, Authenticator authenticator)
      : facts_(std::move(facts)), clock_(clock), authenticator_(authenticator), start_(clock->Now()) {}

  grpc::Service* grpc_service() override { return this; }

  void Attach(scheduler::Scheduler* scheduler, std::shared_ptr<const text::TextModel> text) override {
    const uint32_t context = scheduler->model().context_tokens;
    attached_ = std::make_unique<Backend>(Backend{scheduler, text, {text, context}});
    backend_ = attached_.get();
  }

  bool WaitForAnswers(base::Duration timeout) override { return calls_.WaitForNone(timeout); }

 private:
  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override {
    std::shared_ptr<void> underway = calls_.Begin();  // before the scheduler has it, so that there is no gap
    grpc::Status error;
    std::shared_ptr<scheduler::Mailbox> mailbox = Submit(context, *request, &error);
    if (mailbox == nullptr) return RejectStream<v1::GenerateResponse>(error);
    return StreamEvents(context, std::move(mailbox), std::move(underway));
  }

  grpc::ServerUnaryReactor* Complete(grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
                                     v1::CompleteResponse* response) override {
    std::shared_ptr<void> underway = calls_.Begin();
    grpc::Status error;
    std::shared_ptr<scheduler::Mailbox> mailbox = Submit(context, *request, &error);
    if (mailbox == nullptr) return Finish(context, error);
    return CollectEvents(std::move(mailbox), response, std::move(underway));
  }

  grpc::ServerWriteReactor<v1::ScoreResponse>* Score(grpc::CallbackServerContext* context, const v1::ScoreRequest*) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) {
      return RejectStream<v1::ScoreResponse>(refused);
    }
    return RejectStream<v1::ScoreResponse>({grpc::StatusCode::UNIMPLEMENTED, "Score is not served by this version"});
  }

  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) return Finish(context, refused);
    const Backend* backend = backend_;
    if (backend == nullptr) return Finish(context, StillLoading());
    base::Violations violations;
    const std::vector<base::TokenId> ids = Encode(*backend, *request, violations);
    if (!violations.empty()) return Finish(context, ToGrpcStatus(violations.ToStatus(), violations));
    for (base::TokenId id : ids) {
      auto piece = backend->text->tokenizer->Piece(id);
      response->add_ids(id);
      response->add_pieces(piece.data(), piece.size());
    }
    return Finish(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) return Finish(context, refused);
    const Backend* backend = backend_;
    if (backend == nullptr) return Finish(context, StillLoading());
    base::Violations violations;
    const uint32_t vocabulary = backend->scheduler->model().vocabulary_size;
    for (int i = 0; i < request->ids_size(); ++i) {
      if (request->ids(i) >= vocabulary) {
        violations.Add(absl::StrCat("ids[", i, "]"), absl::StrCat("must be below the vocabulary size ", vocabulary));
      }
    }
    if (!violations.empty()) return Finish(context, ToGrpcStatus(violations.ToStatus(), violations));
    std::vector<base::TokenId> ids(request->ids().begin(), request->ids().end());
    response->set_text(backend->text->tokenizer->Decode(ids, /*skip_special=*/true));  // as Generate's text
    return Finish(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest*,
                                     v1::GetModelResponse* response) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) return Finish(context, refused);
    const Backend* backend = backend_;
    if (backend == nullptr) return Finish(context, StillLoading());
    const base::ModelInfo& model = backend->scheduler->model();
    response->set_name(model.name);
    response->set_architecture(model.architecture);
    response->set_vocabulary_size(model.vocabulary_size);
    response->set_context_tokens(model.context_tokens);
    response->set_layers(model.layers);
    response->set_query_heads(model.query_heads);
    response->set_kv_heads(model.kv_heads);
    response->set_head_size(model.head_size);
    for (base::TokenId id : backend->text->eos_token_ids) response->add_eos_token_ids(id);
    response->set_weights(model.weights);
    response->set_kv(model.kv);
    response->set_weight_bytes(model.weight_bytes);
    response->set_kv_bytes_per_token(model.kv_bytes_per_token);
    response->set_has_chat_template(backend->text->chat_template.has_value());
    return Finish(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* GetServerStatus(grpc::CallbackServerContext* context, const v1::GetServerStatusRequest*,
                                            v1::GetServerStatusResponse* response) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) return Finish(context, refused);
    const Backend* backend = backend_;
    const scheduler::Status status = backend != nullptr ? backend->scheduler->status() : scheduler::Status();
    response->set_version(facts_.version);
    response->set_state(facts_.state ? facts_.state() : Name(status.state));
    const auto uptime = std::chrono::duration_cast<std::chrono::nanoseconds>(clock_->Now() - start_).count();
    response->mutable_uptime()->set_seconds(uptime / 1'000'000'000);
    response->mutable_uptime()->set_nanos(static_cast<int32_t>(uptime % 1'000'000'000));
    response->set_requests_running(status.running);
    response->set_requests_queued(status.queued);
    response->set_kv_used_bytes(status.kv_used_bytes);
    response->set_kv_cached_bytes(status.kv_cached_bytes);
    response->set_kv_capacity_bytes(status.kv_capacity_bytes);
    response->set_default_mode(ToProto(facts_.default_mode));
    response->set_default_preset(ToProto(facts_.default_preset));
    response->set_threads(facts_.threads);
    return Finish(context, grpc::Status::OK);
  }

  static grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const grpc::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(status);
    return reactor;
  }

  // For calls that do not ask who it is.
  grpc::Status CheckCaller(const grpc::CallbackServerContext& context) const {
    return ToGrpcStatus(authenticator_.Identify(context).status());
  }

  // The mailbox of an admitted request, or null and the error. What conversion and admission find wrong is reported
  // together.
  std::shared_ptr<scheduler::Mailbox> Submit(grpc::CallbackServerContext* context, const v1::GenerateRequest& proto,
                                             grpc::Status* error) {
    absl::StatusOr<std::string> identity = authenticator_.Identify(*context);
    if (!identity.ok()) {
      *error = ToGrpcStatus(identity.status());
      return nullptr;
    }
    const Backend* backend = backend_;
    if (backend == nullptr) {
      *error = StillLoading();
      return nullptr;
    }
    base::Violations violations;
    scheduler::GenerationRequest request = FromProto(proto, violations);
    request.identity = *std::move(identity);
    request.arrival = clock_->Now();
    request.deadline = Deadline(*context, request.arrival);
    request.peer = context->peer();
    absl::StatusOr<std::shared_ptr<scheduler::Mailbox>> mailbox = backend->scheduler->Submit(std::move(request), &violations);
    if (mailbox.ok()) return *std::move(mailbox);
    if (const auto delay = base::RetryDelay(mailbox.status())) {
      context->AddTrailingMetadata(kRetryPushback, absl::StrCat(delay->count()));
    }
    *error = ToGrpcStatus(mailbox.status(), violations);
    return nullptr;
  }

  static std::vector<base::TokenId> Encode(const Backend& backend, const v1::TokenizeRequest& request,
                                           base::Violations& violations) {
    switch (request.input_case()) {
      case v1::TokenizeRequest::kText:
        return backend.reader.ReadText(request.text(), request.parse_special(), violations);
      case v1::TokenizeRequest::kChat:
        return backend.reader.ReadChat(FromProto(request.chat()), request.parse_special(), violations);
      case v1::TokenizeRequest::INPUT_NOT_SET:
        break;
    }
    violations.Add("input", "one of text and chat must be set");
    return {};
  }

  CallsUnderway calls_;
  std::unique_ptr<const Backend> attached_;
  std::atomic<const Backend*> backend_{nullptr};  // attached_, once it can be used
  const ServerFacts facts_;
  const base::Clock* const clock_;
  const Authenticator authenticator_;
  const base::TimePoint start_;
};

}  // namespace

std::unique_ptr<InferenceService> MakeInferenceService(ServerFacts facts, const base::Clock* clock,
                                                       Authenticator authenticator) {
  return std::make_unique<Service>(std::move(facts), clock, authenticator);
}

}  // namespace ebbinghaus::rpc
