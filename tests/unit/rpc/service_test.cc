#include "server/rpc/service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "google/protobuf/text_format.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/completion_queue.h"
#include "grpcpp/generic/generic_stub.h"
#include "server/metrics/metrics.h"
#include "server/rpc/event_conversion.h"
#include "server/rpc/grpc_server.h"
#include "server/rpc/warm_up.h"
#include "tests/support/fake_engine.h"

namespace ebbinghaus::rpc {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// The whole server but for its engine and its sockets.
class ServiceTest : public testing::Test {
 protected:
  void Start(scheduler::Options options = {}) {
    options.log_requests = false;
    scheduler_ = std::make_unique<scheduler::Scheduler>(
        options, std::make_unique<support::FakeEngine>(script_), text_, &metrics_, &clock_);
    StartWithoutModel();
    service_->Attach(scheduler_.get(), text_);
  }
  void StartWithoutModel(std::function<std::string()> state = nullptr) {
    service_ = MakeInferenceService(
        {"1.2.3", base::GenerationMode::kSoftDelete, memory::Preset::kChat, 3, std::move(state)}, &clock_,
        authenticator_, &metrics_);
    GrpcServerOptions server_options;
    server_options.host = "";
    auto server = GrpcServer::Start(server_options, service_->grpc_service());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::InferenceService::NewStub(server_->InProcessChannel());
  }

  void TearDown() override {
    server_.reset();
    scheduler_.reset();
    EXPECT_THAT(script_->broken_promises(), IsEmpty());
    EXPECT_EQ(script_->sequences(), 0u);
  }

  static v1::GenerateRequest Parse(const std::string& text) {
    v1::GenerateRequest request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
    return request;
  }

  grpc::Status Generate(const std::string& request, std::vector<v1::GenerateResponse>* events = nullptr) {
    grpc::ClientContext context;
    if (!authorization_.empty()) context.AddMetadata("authorization", authorization_);
    auto stream = stub_->Generate(&context, Parse(request));
    for (v1::GenerateResponse event; stream->Read(&event);) {
      if (events != nullptr) events->push_back(event);
    }
    grpc::Status status = stream->Finish();
    trailers_.clear();
    for (const auto& [key, value] : context.GetServerTrailingMetadata()) {
      trailers_[std::string(key.data(), key.size())] = std::string(value.data(), value.size());
    }
    return status;
  }

  void ExpectRefusedAlike(const std::string& input, const std::string& field) {
    v1::TokenizeRequest request;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(input, &request));
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    const grpc::Status status = stub_->Tokenize(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << field;
    EXPECT_THAT(status.error_message(), StartsWith(field + ": "));
    EXPECT_THAT(status.error_details(), AllOf(HasSubstr("google.rpc.BadRequest"), HasSubstr(field)));
    const grpc::Status generate = Generate(input);
    EXPECT_EQ(generate.error_code(), status.error_code());
    if (field != "input") {
      EXPECT_EQ(generate.error_message(), status.error_message());
    }
  }

  const base::SteadyClock clock_;
  metrics::Metrics metrics_{&clock_};
  std::shared_ptr<support::EngineScript> script_ = std::make_shared<support::EngineScript>();
  std::shared_ptr<text::TextModel> text_ = support::ByteTextModel();
  Authenticator authenticator_;
  std::unique_ptr<scheduler::Scheduler> scheduler_;
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  std::map<std::string, std::string> trailers_;
  std::string authorization_;  // of Generate
};

// With two tokens.
class ServiceWithTokensTest : public ServiceTest {
 protected:
  void SetUp() override {
    ASSERT_TRUE(tokens_.Set("anna annas-secret-0123456789\nben bens-secret-0123456789").ok());
    authenticator_ = Authenticator(&tokens_, &metrics_);
  }

  // An empty message to a method known by name only: any other than UNAUTHENTICATED means that it was let in.
  grpc::Status Call(const std::string& method, const std::vector<std::string>& authorizations) {
    grpc::ClientContext context;
    for (const std::string& value : authorizations) context.AddMetadata("authorization", value);
    grpc::CompletionQueue queue;
    grpc::GenericStub stub(server_->InProcessChannel());
    auto call = stub.PrepareCall(&context, method, &queue);
    grpc::ByteBuffer response;
    grpc::Status status;
    call->StartCall(nullptr);
    Next(queue);
    call->WriteLast(grpc::ByteBuffer(nullptr, 0), {}, nullptr);
    Next(queue);
    do {
      call->Read(&response, nullptr);
    } while (Next(queue));
    call->Finish(&status, nullptr);
    Next(queue);
    return status;
  }

  static bool Next(grpc::CompletionQueue& queue) {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return ok;
  }

  TokenStore tokens_;
};

TEST_F(ServiceWithTokensTest, EveryMethodThereIsNeedsOne) {
  Start();
  const auto* service = google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(
      v1::InferenceService::service_full_name());
  ASSERT_NE(service, nullptr);
  ASSERT_GE(service->method_count(), 7);
  for (int i = 0; i < service->method_count(); ++i) {
    const std::string method = "/" + service->full_name() + "/" + service->method(i)->name();
    EXPECT_EQ(Call(method, {}).error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
    EXPECT_EQ(Call(method, {"Bearer annas-secret-012345678"}).error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
    EXPECT_NE(Call(method, {"Bearer annas-secret-0123456789"}).error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
  }
  EXPECT_THAT(metrics_.Serialize(), HasSubstr("ebbinghaus_requests_rejected_total{reason=\"unauthenticated\"} " +
                                              std::to_string(2 * service->method_count()) + "\n"));
}

TEST_F(ServiceWithTokensTest, WhatIsWrongIsSaidWithoutTheSecret) {
  Start();
  const std::string method = std::string("/") + v1::InferenceService::service_full_name() + "/GetModel";
  for (const auto& [values, expected] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "wants metadata `authorization: Bearer SECRET`"},
           {{"Basic YW5uYTphbm5h"}, "has another `authorization`"},
           {{"annas-secret-0123456789"}, "has another `authorization`"},
           {{"Bearer"}, "has another `authorization`"},
           {{"Bearer "}, "has another `authorization`|not one that this server knows"},  // HTTP/2 may trim it
           {{"Bearer annas-secret"}, "not one that this server knows"},
           {{"Bearer annas-secret-0123456789", "Bearer bens-secret-0123456789"}, "more than once"}}) {
    const grpc::Status status = Call(method, values);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << expected;
    EXPECT_THAT(status.error_message(), testing::ContainsRegex(expected));
    EXPECT_THAT(status.error_message(), testing::Not(HasSubstr("annas")));
  }
  for (const char* good : {"bearer annas-secret-0123456789", "BEARER   annas-secret-0123456789"}) {
    EXPECT_TRUE(Call(method, {good}).ok()) << good;
  }
}

TEST_F(ServiceWithTokensTest, TheNameGoesWithTheRequest) {
  std::vector<std::string> owners;
  script_->on_add = [&owners](const base::SequenceSpec& spec) {
    owners.push_back(spec.cache_owner);
    return absl::OkStatus();
  };
  Start();
  for (const char* secret : {"annas-secret-0123456789", "bens-secret-0123456789"}) {
    authorization_ = std::string("Bearer ") + secret;
    EXPECT_TRUE(Generate("text: 'abc' max_new_tokens: 1").ok());
  }
  EXPECT_THAT(owners, ElementsAre("anna", "ben"));
}

TEST_F(ServiceWithTokensTest, ReplacedTokensCountAtOnce) {
  Start();
  const std::string method = std::string("/") + v1::InferenceService::service_full_name() + "/GetModel";
  ASSERT_TRUE(tokens_.Set("anna another-secret-0123456789").ok());
  EXPECT_FALSE(Call(method, {"Bearer annas-secret-0123456789"}).ok());
  EXPECT_TRUE(Call(method, {"Bearer another-secret-0123456789"}).ok());
}

TEST_F(ServiceTest, BeforeTheModelIsThereEveryCallIsUnavailableButTheStatusIsTold) {
  StartWithoutModel([] { return std::string("loading"); });
  const auto expect_unavailable = [](const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(status.error_message(), HasSubstr("loaded"));
  };
  expect_unavailable(Generate("text: 'abc'"));
  v1::CompleteResponse complete;
  v1::TokenizeResponse tokenize;
  v1::DetokenizeResponse detokenize;
  v1::GetModelResponse model;
  v1::GetServerStatusResponse status;
  grpc::ClientContext contexts[5];
  expect_unavailable(stub_->Complete(&contexts[0], Parse("text: 'abc'"), &complete));
  expect_unavailable(stub_->Tokenize(&contexts[1], {}, &tokenize));
  expect_unavailable(stub_->Detokenize(&contexts[2], {}, &detokenize));
  expect_unavailable(stub_->GetModel(&contexts[3], {}, &model));
  EXPECT_TRUE(stub_->GetServerStatus(&contexts[4], {}, &status).ok());
  EXPECT_EQ(status.state(), "loading");
  // The two that generate, in the server's default mode, without a duration.
  EXPECT_THAT(metrics_.Serialize(),
              AllOf(HasSubstr("ebbinghaus_requests_total{code=\"UNAVAILABLE\",mode=\"soft_delete\"} 2\n"),
                    HasSubstr("ebbinghaus_request_duration_seconds_count{mode=\"soft_delete\"} 0\n")));
  EXPECT_EQ(status.version(), "1.2.3");
}

TEST_F(ServiceTest, AStreamAndACompleteAnswerSayTheSame) {
  Start();
  std::vector<v1::GenerateResponse> events;
  ASSERT_TRUE(Generate("text: 'abc' max_new_tokens: 5", &events).ok());
  ASSERT_EQ(events.size(), 7u);
  EXPECT_EQ(events[0].started().prompt_tokens(), 3u);
  std::string text;
  for (size_t i = 1; i < 6; ++i) text += events[i].token().text();
  EXPECT_EQ(text, "abcde");
  EXPECT_EQ(events[6].finished().finish_reason(), v1::FINISH_REASON_LENGTH);

  grpc::ClientContext context;
  v1::CompleteResponse complete;
  ASSERT_TRUE(stub_->Complete(&context, Parse("text: 'abc' max_new_tokens: 5"), &complete).ok());
  EXPECT_EQ(complete.text(), "abcde");
  EXPECT_THAT(complete.token_ids().ids(), ElementsAre('a', 'b', 'c', 'd', 'e'));
}

TEST_F(ServiceTest, ViolationsOfConversionAndAdmissionArriveTogether) {
  Start();
  grpc::Status status = Generate("generation_mode: 42 sampling { temperature: 3 } memory { pinned { begin: 1 } }");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), AllOf(HasSubstr("generation_mode: unknown number 42"), HasSubstr("temperature"),
                                            HasSubstr("input"), HasSubstr("memory.pinned[0].end")));
  EXPECT_THAT(status.error_details(), HasSubstr("google.rpc.BadRequest"));
}

TEST_F(ServiceTest, AnUnknownEnumNumberAloneIsRefused) {
  Start();
  EXPECT_EQ(Generate("text: 'x' generation_mode: 42").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServiceTest, AFullQueueSaysWhenToComeBack) {
  std::atomic<bool> go_on = false;
  script_->token = [&go_on](const base::SequenceSpec&, uint32_t) -> base::TokenId {
    while (!go_on) std::this_thread::yield();
    return 'x';
  };
  scheduler::Options options;
  options.max_batch = options.max_queue = 1;
  Start(options);
  const auto call = [this] {
    grpc::ClientContext context;
    v1::CompleteResponse response;
    EXPECT_TRUE(stub_->Complete(&context, Parse("text: 'x' max_new_tokens: 2"), &response).ok());
  };
  std::thread running(call);
  while (scheduler_->status().running < 1) std::this_thread::yield();
  std::thread waiting(call);
  while (scheduler_->status().queued < 1) std::this_thread::yield();
  grpc::Status status = Generate("text: 'abc'");
  go_on = true;
  running.join();
  waiting.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_THAT(status.error_details(), HasSubstr("google.rpc.RetryInfo"));
  EXPECT_EQ(trailers_["grpc-retry-pushback-ms"], "1000");
}

TEST_F(ServiceTest, AnswersAreWaitedForUntilTheyHaveLeft) {
  std::atomic<bool> go_on = false;
  script_->token = [&go_on](const base::SequenceSpec&, uint32_t) -> base::TokenId {
    while (!go_on) std::this_thread::yield();
    return 'x';
  };
  Start();
  const base::Duration none = base::Duration::zero();
  EXPECT_TRUE(service_->WaitForAnswers(none));
  EXPECT_FALSE(Generate("text: 'x' max_new_tokens: 0").ok());
  EXPECT_TRUE(service_->WaitForAnswers(none));  // a refused call is none
  std::thread stream([this] { EXPECT_TRUE(Generate("text: 'x' max_new_tokens: 2").ok()); });
  while (scheduler_->status().running < 1) std::this_thread::yield();
  EXPECT_FALSE(service_->WaitForAnswers(none));
  go_on = true;
  stream.join();
  EXPECT_TRUE(service_->WaitForAnswers(std::chrono::seconds(20)));
  go_on = false;
  std::thread unary([this] {
    grpc::ClientContext context;
    v1::CompleteResponse response;
    EXPECT_TRUE(stub_->Complete(&context, Parse("text: 'x' max_new_tokens: 2"), &response).ok());
  });
  while (scheduler_->status().running < 1) std::this_thread::yield();
  EXPECT_FALSE(service_->WaitForAnswers(none));
  go_on = true;
  unary.join();
  EXPECT_TRUE(service_->WaitForAnswers(std::chrono::seconds(20)));
}

TEST_F(ServiceTest, ATextThatIsBeingReadIsWaitedForAndKeepsNoOtherCallWaiting) {
  std::atomic<bool> reading = false, go_on = false;
  text_->chat_template = text::ChatTemplate::Parse("{{ strftime_now('%Y') }}{{ messages[0].content }}", {}).value();
  text_->now = [&]() -> std::time_t {
    reading = true;
    while (!go_on) std::this_thread::yield();
    return 0;
  };
  Start();
  std::thread slow([this] {
    v1::TokenizeRequest request;
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content("x");
    grpc::ClientContext context;
    v1::TokenizeResponse response;
    EXPECT_TRUE(stub_->Tokenize(&context, request, &response).ok());
    EXPECT_EQ(response.ids_size(), 5);
  });
  while (!reading) std::this_thread::yield();
  EXPECT_FALSE(service_->WaitForAnswers(base::Duration::zero()));
  for (int i = 0; i < 10; ++i) {  // more than gRPC has threads
    grpc::ClientContext context;
    v1::GetModelResponse response;
    EXPECT_TRUE(stub_->GetModel(&context, {}, &response).ok());
  }
  go_on = true;
  slow.join();
  EXPECT_TRUE(service_->WaitForAnswers(std::chrono::seconds(20)));
}

TEST_F(ServiceTest, ACallGivenUpWhileItsTextIsReadLeavesNothingBehind) {
  const auto reading = std::make_shared<std::atomic<bool>>(false), go_on = std::make_shared<std::atomic<bool>>(false);
  text_->chat_template = text::ChatTemplate::Parse("{{ strftime_now('%Y') }}{{ messages[0].content }}", {}).value();
  text_->now = [reading, go_on]() -> std::time_t {
    *reading = true;
    while (!*go_on) std::this_thread::yield();
    return 0;
  };
  Start();
  grpc::ClientContext context;
  auto stream = stub_->Generate(&context, Parse("chat { messages { role: 'user' content: 'x' } }"));
  while (!*reading) std::this_thread::yield();
  context.TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(service_->WaitForAnswers(std::chrono::seconds(20)));
  *go_on = true;  // TearDown finds no sequence
}

TEST_F(ServiceTest, ADrainingServerIsUnavailableButStillAnswersQuestions) {
  Start();
  scheduler_->Drain({});
  grpc::Status status = Generate("text: 'abc'");
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_details(), IsEmpty());
  grpc::ClientContext context;
  v1::GetServerStatusResponse response;
  ASSERT_TRUE(stub_->GetServerStatus(&context, {}, &response).ok());
  EXPECT_NE(response.state(), "serving");
  EXPECT_EQ(response.version(), "1.2.3");
  EXPECT_EQ(response.default_mode(), v1::GENERATION_MODE_SOFT_DELETE);
  EXPECT_EQ(response.default_preset(), v1::MEMORY_PRESET_CHAT);
  EXPECT_EQ(response.threads(), 3u);
}

TEST_F(ServiceTest, ABrokenSequenceEndsItsOwnCallOnly) {
  script_->decorate = [](const base::SequenceSpec& spec, uint32_t index, base::StepOutcome& outcome) {
    if (spec.prompt.size() == 3 && index == 2) outcome.status = absl::InternalError("numbers went wrong");
  };
  Start();
  grpc::Status other;
  std::thread beside([&] { other = Generate("text: 'fine' max_new_tokens: 50"); });
  grpc::ClientContext context;
  v1::CompleteResponse complete;
  grpc::Status broken = stub_->Complete(&context, Parse("text: 'bad' max_new_tokens: 50"), &complete);
  beside.join();
  EXPECT_EQ(broken.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_TRUE(other.ok()) << other.error_message();
}

TEST_F(ServiceTest, ADeadlineOfTheCallEndsTheSequence) {
  std::atomic<bool> late = false;
  script_->token = [&late](const base::SequenceSpec&, uint32_t) -> base::TokenId {
    while (!late) std::this_thread::yield();  // the first token is not there before the deadline has passed
    return 'x';
  };
  Start();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(30));
  v1::CompleteResponse complete;
  grpc::Status status = stub_->Complete(&context, Parse("text: 'x' max_new_tokens: 900"), &complete);
  late = true;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  scheduler_->Drain({});  // TearDown finds no sequence left
}

TEST_F(ServiceTest, HugeAttentionTravelsInMessagesOfOneMebibyte) {
  constexpr uint32_t kPositions = 400'000;
  script_->decorate = [](const base::SequenceSpec&, uint32_t, base::StepOutcome& outcome) {
    base::AttentionRow row;
    row.layer = 1;
    row.positions.assign(kPositions, 1u << 30);
    row.weights.assign(kPositions, 0.5f);
    outcome.token->attention = {row};
  };
  Start();
  std::vector<v1::GenerateResponse> events;
  ASSERT_TRUE(Generate("text: 'x' max_new_tokens: 3 return_attention_weights: true", &events).ok());
  uint32_t positions = 0;
  for (const v1::GenerateResponse& event : events) {
    EXPECT_LE(event.ByteSizeLong(), kMaxMessageBytes);
    for (const v1::AttentionRow& row : event.memory().attention()) positions += row.positions_size();
  }
  EXPECT_EQ(positions, 3 * kPositions);
}

TEST_F(ServiceTest, TokenizeReportsBadInputAsGenerateDoes) {
  Start();
  for (const auto& [input, field] : std::vector<std::pair<std::string, std::string>>{
           {"", "input"},
           {"text: '" + std::string(40'000, 'x') + "'", "text"},
           {"chat { messages { role: 'user' } }", "chat"}}) {
    ExpectRefusedAlike(input, field);
  }
}

TEST_F(ServiceTest, TokenizeReportsBadChatsAsGenerateDoes) {
  text_->chat_template = text::ChatTemplate::Parse("{{ messages[0].content }}", {}).value();
  Start();
  std::string messages;
  for (int i = 0; i < 1001; ++i) messages += "messages { } ";
  for (const auto& [input, field] : std::vector<std::pair<std::string, std::string>>{
           {"chat { }", "chat.messages"},
           {"chat { " + messages + "}", "chat.messages"},
           {"chat { messages { role: 'user' content: 'x' } messages { content: 'x' } }", "chat.messages[1].role"},
           {"chat { messages { role: 'user' content: '" + std::string(40'000, 'x') + "' } }", "chat.messages"}}) {
    ExpectRefusedAlike(input, field);
  }
}

TEST_F(ServiceTest, WarmUpLeavesNothingBehindAndReachesEveryMode) {
  std::set<base::GenerationMode> modes;
  script_->on_add = [&modes](const base::SequenceSpec& spec) {
    modes.insert(spec.mode);
    return absl::OkStatus();
  };
  support::FakeEngine engine(script_);
  EXPECT_TRUE(WarmUp(&engine, text_, &clock_).ok());
  EXPECT_EQ(modes.size(), 3u);
  EXPECT_EQ(engine.kv_used_bytes(), 0u);
}

TEST_F(ServiceTest, AnEngineThatCannotGenerateFailsTheWarmUp) {
  script_->decorate = [](const base::SequenceSpec&, uint32_t, base::StepOutcome& outcome) {
    outcome.status = absl::InternalError("no such instruction");
  };
  support::FakeEngine engine(script_);
  absl::Status status = WarmUp(&engine, text_, &clock_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("warm-up"));
}

}  // namespace
}  // namespace ebbinghaus::rpc
