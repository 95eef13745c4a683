#include "server/rpc/service.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpc/support/time.h"
#include "server/base/retry.h"
#include "server/rpc/answer_limits.h"
#include "server/rpc/call_reactors.h"
#include "server/rpc/calls_underway.h"
#include "server/rpc/incoming_call.h"
#include "server/rpc/raw_service.h"
#include "server/rpc/request_conversion.h"
#include "server/rpc/request_gate.h"
#include "server/rpc/status_conversion.h"
#include "server/rpc/wire_check.h"
#include "server/rpc/work_pool.h"
#include "server/scheduler/prompt_reader.h"

namespace ebbinghaus::rpc {
namespace {

// The largest message follows from the model: a context of text at 32 bytes per token (English has 4, indented code and
// Asian scripts up to 16), a bias for every token of the vocabulary, and the other fields. Parsed, it may take four times that.
constexpr size_t kOtherFieldsBytes = 64 << 10, kTextBytesPerToken = 32, kBiasBytesPerToken = 14;
constexpr size_t kParsedPerWireByte = 4;
constexpr size_t kEmptyRequestBytes = RequestGate::kAlwaysRoomBytes;
// Of all messages that are coming in or wait to be read.
constexpr size_t kRequestBudgetBytes = 32 << 20;

size_t MaxRequestBytes(const base::ModelInfo& model) {
  const size_t bytes = kOtherFieldsBytes + kTextBytesPerToken * model.context_tokens +
                       kBiasBytesPerToken * model.vocabulary_size;
  return std::min(bytes, kRequestBudgetBytes);
}

// A deadline further away is none.
constexpr int64_t kLongestDeadlineSeconds = int64_t{10} * 365 * 24 * 3600;

// gRPC counts in wall time, we in steady time; the difference between two clocks read now is good enough. The raw deadline,
// because what a client may write (99,999,999 hours) does not fit into a time point of the system's clock.
std::optional<base::TimePoint> Deadline(const grpc::CallbackServerContext& context, base::TimePoint now) {
  const gpr_timespec deadline = gpr_convert_clock_type(context.raw_deadline(), GPR_CLOCK_REALTIME);
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(GPR_CLOCK_REALTIME));
  if (left.tv_sec >= kLongestDeadlineSeconds) return std::nullopt;
  if (left.tv_sec < 0) return now;
  return now + std::chrono::seconds(left.tv_sec) + std::chrono::nanoseconds(left.tv_nsec);
}

const char* Name(scheduler::Status::State state) {
  switch (state) {
    case scheduler::Status::State::kServing: return "serving";
    case scheduler::Status::State::kDraining: return "draining";
    case scheduler::Status::State::kStopped: return "stopped";
  }
  return "";
}

absl::Status StillLoading() { return absl::UnavailableError("the model is being loaded; retry later"); }

// What there is once the model is loaded.
struct Backend {
  scheduler::Scheduler* scheduler;
  std::shared_ptr<const text::TextModel> text;
  scheduler::PromptReader reader;
  size_t max_request_bytes;
};

// What is known of a call before its message.
struct Caller {
  std::string identity, peer;
  base::TimePoint arrival;
  std::optional<base::TimePoint> deadline;
};

using CallPtr = std::shared_ptr<IncomingCall>;

class Service final : public InferenceService, private RawService {
 public:
  Service(ServerFacts facts, const base::Clock* clock, Authenticator authenticator, metrics::Metrics* metrics)
      : facts_(std::move(facts)),
        clock_(clock),
        authenticator_(authenticator),
        metrics_(metrics),
        start_(clock->Now()),
        gate_(kRequestBudgetBytes, clock) {
    Serve<v1::GenerateRequest>("Generate", kGenerates, &Service::Generate);
    Serve<v1::GenerateRequest>("Complete", kGenerates, &Service::Complete);
    Serve<v1::ScoreRequest>("Score", kNeedsModel, &Service::Score);
    Serve<v1::TokenizeRequest>("Tokenize", kNeedsModel, &Service::Tokenize);
    Serve<v1::DetokenizeRequest>("Detokenize", kNeedsModel, &Service::Detokenize);
    Serve<v1::GetModelRequest>("GetModel", kNeedsModel | kQuick, &Service::GetModel);
    Serve<v1::GetServerStatusRequest>("GetServerStatus", kQuick, &Service::GetServerStatus);
  }

  grpc::Service* grpc_service() override { return this; }
  RequestGate* gate() override { return &gate_; }

  void Attach(scheduler::Scheduler* scheduler, std::shared_ptr<const text::TextModel> text) override {
    const base::ModelInfo& model = scheduler->model();
    attached_ = std::make_unique<Backend>(
        Backend{scheduler, text, {text, model.context_tokens}, MaxRequestBytes(model)});
    backend_ = attached_.get();
  }

  bool WaitForAnswers(base::Duration timeout) override { return calls_.WaitForNone(timeout); }

 private:
  enum Traits : unsigned {
    kNeedsModel = 1,
    kCounts = 2,  // in requests_total
    kGenerates = kNeedsModel | kCounts,
    kQuick = 4,  // an empty request, answered at once
  };
  template <typename Request>
  using Handler = void (Service::*)(const CallPtr&, const Caller&, const Request&);

  // Registers a method. Its requests reach `handler` only when they are known to be worth parsing.
  template <typename Request>
  void Serve(const char* name, unsigned traits, Handler<Request> handler) {
    const std::string path = absl::StrCat("/", v1::InferenceService::service_full_name(), "/", name);
    const auto serve = [this, traits, handler](const CallPtr& call, const Caller& caller, const std::string& bytes) {
      Request request;
      if (Parse(bytes, call, traits, request)) (this->*handler)(call, caller, request);
    };
    AddRawMethod(path, [this, traits, serve](grpc::CallbackServerContext* context) { return Begin(context, traits, serve); });
  }

  // All that is asked of a call before its message is let in.
  IncomingCall::Reactor* Begin(grpc::CallbackServerContext* context, unsigned traits,
                               std::function<void(const CallPtr&, const Caller&, const std::string&)> serve) {
    absl::StatusOr<std::string> identity = authenticator_.Identify(*context);
    const Backend* backend = backend_;
    absl::Status refused = identity.status();
    if (refused.ok() && backend == nullptr && (traits & kNeedsModel)) refused = StillLoading();
    if (!refused.ok()) {
      CountUnread(traits, refused.code());
      gate_.CountHeaders(context->peer());
      return IncomingCall::Reject(ToGrpcStatus(refused));
    }
    const base::TimePoint now = clock_->Now();
    Caller caller{*std::move(identity), context->peer(), now, Deadline(*context, now)};
    IncomingCall::Plan plan;
    plan.client = caller.identity.empty() ? caller.peer : absl::StrCat("token ", caller.identity);
    plan.max_request_bytes = traits & kQuick ? kEmptyRequestBytes : backend->max_request_bytes;
    plan.gate = &gate_;
    plan.pool = traits & kQuick ? nullptr : &pool_;
    plan.refused = [this, traits](absl::StatusCode code) { CountUnread(traits, code); };
    plan.underway = calls_.Begin();
    plan.serve = [caller = std::move(caller), serve = std::move(serve)](const CallPtr& call, std::string bytes) {
      serve(call, caller, bytes);
    };
    return IncomingCall::Start(context, std::move(plan));
  }

  // Nobody knows which mode such a call would have had: it counts as one of the server's default mode.
  void CountUnread(unsigned traits, absl::StatusCode code) {
    if (metrics_ != nullptr && (traits & kCounts)) metrics_->RequestEnded(facts_.default_mode, code, std::nullopt);
  }

  // False: the call has been refused.
  bool Parse(const std::string& bytes, const CallPtr& call, unsigned traits, google::protobuf::Message& request) {
    base::Violations violations;
    const size_t max_parsed_bytes = kParsedPerWireByte * (traits & kQuick ? kEmptyRequestBytes : attached_->max_request_bytes);
    CheckWire(bytes, request.GetDescriptor(), max_parsed_bytes, violations);
    if (violations.empty() && !request.ParseFromString(bytes)) {
      violations.Add("request", "is not encoded as this service's .proto says");
    }
    if (violations.empty()) return true;
    if (metrics_ != nullptr && (traits & kCounts)) metrics_->RequestRejected(metrics::Rejection::kInvalidArgument);
    CountUnread(traits, absl::StatusCode::kInvalidArgument);
    call->Refuse(violations.ToStatus(), violations);
    return false;
  }

  void Generate(const CallPtr& call, const Caller& caller, const v1::GenerateRequest& request) {
    if (std::shared_ptr<scheduler::Mailbox> mailbox = Submit(call, caller, request)) StreamEvents(call, std::move(mailbox));
  }

  void Complete(const CallPtr& call, const Caller& caller, const v1::GenerateRequest& request) {
    if (std::shared_ptr<scheduler::Mailbox> mailbox = Submit(call, caller, request)) CollectEvents(call, std::move(mailbox));
  }

  void Score(const CallPtr& call, const Caller&, const v1::ScoreRequest&) {
    call->Refuse(absl::UnimplementedError("Score is not served by this version"));
  }

  void Tokenize(const CallPtr& call, const Caller&, const v1::TokenizeRequest& request) {
    base::Violations violations;
    const std::vector<base::TokenId> ids = Encode(call, request, violations);
    v1::TokenizeResponse response;
    size_t bytes = 0;
    for (base::TokenId id : ids) {
      const std::string_view piece = attached_->text->tokenizer->Piece(id);
      bytes += piece.size() + 2 * kMaxIdBytes;
      if (bytes > kMaxAnswerBytes) break;
      response.add_ids(id);
      response.add_pieces(piece.data(), piece.size());
    }
    CheckAnswer(TokenizeInput(request), bytes, violations);
    if (violations.empty()) return call->Reply(response);
    call->Refuse(violations.ToStatus(), violations);
  }

  void Detokenize(const CallPtr& call, const Caller&, const v1::DetokenizeRequest& request) {
    base::Violations violations;
    const base::ModelInfo& model = attached_->scheduler->model();
    const text::Tokenizer& tokenizer = *attached_->text->tokenizer;
    size_t bytes = 0;
    if (request.ids_size() > static_cast<int64_t>(model.context_tokens)) {
      violations.Add("ids", absl::StrCat("must be at most ", model.context_tokens, ", the model's context, are ",
                                         request.ids_size()));
    } else {
      for (int i = 0; i < request.ids_size(); ++i) {
        const uint32_t id = request.ids(i);
        if (id >= model.vocabulary_size) {
          violations.Add(absl::StrCat("ids[", i, "]"),
                         absl::StrCat("must be below the vocabulary size ", model.vocabulary_size));
        } else if (id < tokenizer.size()) {
          bytes += tokenizer.Piece(id).size();
        }
      }
    }
    CheckAnswer("ids", bytes, violations);
    if (!violations.empty()) return call->Refuse(violations.ToStatus(), violations);
    const std::vector<base::TokenId> ids(request.ids().begin(), request.ids().end());
    v1::DetokenizeResponse response;
    response.set_text(tokenizer.Decode(ids, /*skip_special=*/true));  // as Generate's text
    call->Reply(response);
  }

  static void CheckAnswer(const char* field, size_t bytes, base::Violations& violations) {
    if (bytes <= kMaxAnswerBytes) return;
    violations.Add(field, absl::StrCat("the answer would have more than the ", kMaxAnswerBytes,
                                       " bytes that clients accept; ask for it in parts"));
  }

  void GetModel(const CallPtr& call, const Caller&, const v1::GetModelRequest&) {
    v1::GetModelResponse response;
    const base::ModelInfo& model = attached_->scheduler->model();
    response.set_name(model.name);
    response.set_architecture(model.architecture);
    response.set_vocabulary_size(model.vocabulary_size);
    response.set_context_tokens(model.context_tokens);
    response.set_layers(model.layers);
    response.set_query_heads(model.query_heads);
    response.set_kv_heads(model.kv_heads);
    response.set_head_size(model.head_size);
    for (base::TokenId id : attached_->text->eos_token_ids) response.add_eos_token_ids(id);
    response.set_weights(model.weights);
    response.set_kv(model.kv);
    response.set_weight_bytes(model.weight_bytes);
    response.set_kv_bytes_per_token(model.kv_bytes_per_token);
    response.set_has_chat_template(attached_->text->chat_template.has_value());
    call->Reply(response);
  }

  void GetServerStatus(const CallPtr& call, const Caller&, const v1::GetServerStatusRequest&) {
    const Backend* backend = backend_;
    const scheduler::Status status = backend != nullptr ? backend->scheduler->status() : scheduler::Status();
    v1::GetServerStatusResponse response;
    response.set_version(facts_.version);
    response.set_state(facts_.state ? facts_.state() : Name(status.state));
    const auto uptime = std::chrono::duration_cast<std::chrono::nanoseconds>(clock_->Now() - start_).count();
    response.mutable_uptime()->set_seconds(uptime / 1'000'000'000);
    response.mutable_uptime()->set_nanos(static_cast<int32_t>(uptime % 1'000'000'000));
    response.set_requests_running(status.running);
    response.set_requests_queued(status.queued);
    response.set_kv_used_bytes(status.kv_used_bytes);
    response.set_kv_cached_bytes(status.kv_cached_bytes);
    response.set_kv_capacity_bytes(status.kv_capacity_bytes);
    response.set_default_mode(ToProto(facts_.default_mode));
    response.set_default_preset(ToProto(facts_.default_preset));
    response.set_threads(facts_.threads);
    call->Reply(response);
  }

  // The mailbox of an admitted request; or null, and the call has been refused. What conversion and admission find wrong is
  // reported together.
  std::shared_ptr<scheduler::Mailbox> Submit(const CallPtr& call, const Caller& caller, const v1::GenerateRequest& proto) {
    base::Violations violations;
    scheduler::GenerationRequest request = FromProto(proto, violations);
    request.identity = caller.identity;
    request.peer = caller.peer;
    request.arrival = caller.arrival;
    request.deadline = caller.deadline;
    request.abandoned = [call] { return call->ended(); };
    absl::StatusOr<std::shared_ptr<scheduler::Mailbox>> mailbox =
        attached_->scheduler->Submit(std::move(request), &violations);
    if (mailbox.ok()) return *std::move(mailbox);
    call->Refuse(mailbox.status(), violations);
    return nullptr;
  }

  static const char* TokenizeInput(const v1::TokenizeRequest& request) {
    return request.has_chat() ? "chat.messages" : "text";
  }

  std::vector<base::TokenId> Encode(const CallPtr& call, const v1::TokenizeRequest& request,
                                    base::Violations& violations) const {
    const auto abandoned = [&call] { return call->ended(); };
    switch (request.input_case()) {
      case v1::TokenizeRequest::kText:
        return attached_->reader.ReadText(request.text(), request.parse_special(), violations, abandoned);
      case v1::TokenizeRequest::kChat:
        return attached_->reader.ReadChat(FromProto(request.chat()), request.parse_special(), violations, abandoned);
      case v1::TokenizeRequest::INPUT_NOT_SET:
        break;
    }
    violations.Add("input", "one of text and chat must be set");
    return {};
  }

  const ServerFacts facts_;
  const base::Clock* const clock_;
  const Authenticator authenticator_;
  metrics::Metrics* const metrics_;
  const base::TimePoint start_;
  CallsUnderway calls_;
  std::unique_ptr<const Backend> attached_;
  std::atomic<const Backend*> backend_{nullptr};  // attached_, once it can be used
  RequestGate gate_;
  WorkPool pool_;  // last: its task uses all of the above
};

}  // namespace

std::unique_ptr<InferenceService> MakeInferenceService(ServerFacts facts, const base::Clock* clock,
                                                       Authenticator authenticator, metrics::Metrics* metrics) {
  return std::make_unique<Service>(std::move(facts), clock, authenticator, metrics);
}

}  // namespace ebbinghaus::rpc
