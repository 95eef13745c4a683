#include "server/rpc/service.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "server/rpc/call_reactors.h"
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

class InferenceService final : public v1::InferenceService::CallbackService {
 public:
  InferenceService(scheduler::Scheduler* scheduler, std::shared_ptr<const text::TextModel> text, ServerFacts facts,
                   const base::Clock* clock, Authenticator authenticator)
      : scheduler_(scheduler),
        text_(std::move(text)),
        reader_(text_, scheduler->model().context_tokens),
        facts_(std::move(facts)),
        clock_(clock),
        authenticator_(authenticator),
        start_(clock->Now()) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override {
    grpc::Status error;
    std::shared_ptr<scheduler::Mailbox> mailbox = Submit(*context, *request, &error);
    if (mailbox == nullptr) return RejectStream<v1::GenerateResponse>(Decorate(context, error));
    return StreamEvents(std::move(mailbox));
  }

  grpc::ServerUnaryReactor* Complete(grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
                                     v1::CompleteResponse* response) override {
    grpc::Status error;
    std::shared_ptr<scheduler::Mailbox> mailbox = Submit(*context, *request, &error);
    if (mailbox == nullptr) return Finish(context, Decorate(context, error));
    return CollectEvents(std::move(mailbox), response);
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
    base::Violations violations;
    const std::vector<base::TokenId> ids = Encode(*request, violations);
    if (!violations.empty()) return Finish(context, ToGrpcStatus(violations.ToStatus(), violations));
    for (base::TokenId id : ids) {
      auto piece = text_->tokenizer->Piece(id);
      response->add_ids(id);
      response->add_pieces(piece.data(), piece.size());
    }
    return Finish(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context, const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) return Finish(context, refused);
    base::Violations violations;
    const uint32_t vocabulary = scheduler_->model().vocabulary_size;
    for (int i = 0; i < request->ids_size(); ++i) {
      if (request->ids(i) >= vocabulary) {
        violations.Add(absl::StrCat("ids[", i, "]"), absl::StrCat("must be below the vocabulary size ", vocabulary));
      }
    }
    if (!violations.empty()) return Finish(context, ToGrpcStatus(violations.ToStatus(), violations));
    std::vector<base::TokenId> ids(request->ids().begin(), request->ids().end());
    response->set_text(text_->tokenizer->Decode(ids, /*skip_special=*/true));  // as Generate's text
    return Finish(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest*,
                                     v1::GetModelResponse* response) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) return Finish(context, refused);
    const base::ModelInfo& model = scheduler_->model();
    response->set_name(model.name);
    response->set_architecture(model.architecture);
    response->set_vocabulary_size(model.vocabulary_size);
    response->set_context_tokens(model.context_tokens);
    response->set_layers(model.layers);
    response->set_query_heads(model.query_heads);
    response->set_kv_heads(model.kv_heads);
    response->set_head_size(model.head_size);
    for (base::TokenId id : text_->eos_token_ids) response->add_eos_token_ids(id);
    response->set_weights(model.weights);
    response->set_kv(model.kv);
    response->set_weight_bytes(model.weight_bytes);
    response->set_kv_bytes_per_token(model.kv_bytes_per_token);
    response->set_has_chat_template(text_->chat_template.has_value());
    return Finish(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* GetServerStatus(grpc::CallbackServerContext* context, const v1::GetServerStatusRequest*,
                                            v1::GetServerStatusResponse* response) override {
    if (const grpc::Status refused = CheckCaller(*context); !refused.ok()) return Finish(context, refused);
    const scheduler::Status status = scheduler_->status();
    response->set_version(facts_.version);
    response->set_state(Name(status.state));
    const auto uptime = std::chrono::duration_cast<std::chrono::nanoseconds>(clock_->Now() - start_).count();
    response->mutable_uptime()->set_seconds(uptime / 1'000'000'000);
    response->mutable_uptime()->set_nanos(static_cast<int32_t>(uptime % 1'000'000'000));
    response->set_requests_running(status.running);
    response->set_requests_queued(status.queued);
    response->set_kv_used_bytes(status.kv_used_bytes);
    response->set_kv_capacity_bytes(status.kv_capacity_bytes);
    response->set_default_mode(ToProto(facts_.default_mode));
    response->set_default_preset(ToProto(facts_.default_preset));
    response->set_threads(facts_.threads);
    return Finish(context, grpc::Status::OK);
  }

 private:
  static grpc::ServerUnaryReactor* Finish(grpc::CallbackServerContext* context, const grpc::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(status);
    return reactor;
  }

  static const grpc::Status& Decorate(grpc::CallbackServerContext* context, const grpc::Status& error) {
    if (error.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      context->AddTrailingMetadata(kRetryPushback, absl::StrCat(kRetryDelay.count()));
    }
    return error;
  }

  // For calls that do not ask who it is.
  grpc::Status CheckCaller(const grpc::CallbackServerContext& context) const {
    return ToGrpcStatus(authenticator_.Identify(context).status());
  }

  // The mailbox of an admitted request, or null and the error. What conversion and admission find wrong is reported
  // together.
  std::shared_ptr<scheduler::Mailbox> Submit(const grpc::CallbackServerContext& context,
                                             const v1::GenerateRequest& proto, grpc::Status* error) {
    absl::StatusOr<std::string> identity = authenticator_.Identify(context);
    if (!identity.ok()) {
      *error = ToGrpcStatus(identity.status());
      return nullptr;
    }
    base::Violations violations;
    scheduler::GenerationRequest request = FromProto(proto, violations);
    request.identity = *std::move(identity);
    request.arrival = clock_->Now();
    request.deadline = Deadline(context, request.arrival);
    request.peer = context.peer();
    absl::StatusOr<std::shared_ptr<scheduler::Mailbox>> mailbox = scheduler_->Submit(std::move(request), &violations);
    if (mailbox.ok()) return *std::move(mailbox);
    *error = ToGrpcStatus(mailbox.status(), violations);
    return nullptr;
  }

  std::vector<base::TokenId> Encode(const v1::TokenizeRequest& request, base::Violations& violations) const {
    switch (request.input_case()) {
      case v1::TokenizeRequest::kText:
        return reader_.ReadText(request.text(), request.parse_special(), violations);
      case v1::TokenizeRequest::kChat:
        return reader_.ReadChat(FromProto(request.chat()), request.parse_special(), violations);
      case v1::TokenizeRequest::INPUT_NOT_SET:
        break;
    }
    violations.Add("input", "one of text and chat must be set");
    return {};
  }

  scheduler::Scheduler* const scheduler_;
  const std::shared_ptr<const text::TextModel> text_;
  const scheduler::PromptReader reader_;
  const ServerFacts facts_;
  const base::Clock* const clock_;
  const Authenticator authenticator_;
  const base::TimePoint start_;
};

}  // namespace

std::shared_ptr<grpc::Service> MakeInferenceService(scheduler::Scheduler* scheduler,
                                                    std::shared_ptr<const text::TextModel> text, ServerFacts facts,
                                                    const base::Clock* clock, Authenticator authenticator) {
  return std::make_shared<InferenceService>(scheduler, std::move(text), std::move(facts), clock, authenticator);
}

}  // namespace ebbinghaus::rpc
