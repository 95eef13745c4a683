#include "server/rpc/call_reactors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/impl/codegen/server_callback_handlers.h"
#include "grpcpp/impl/codegen/service_type.h"
#include "grpcpp/security/credentials.h"
#include "server/rpc/grpc_server.h"

namespace ebbinghaus::rpc {
namespace {

using scheduler::Mailbox;
using testing::ElementsAre;

constexpr auto kLimit = std::chrono::seconds(20);  // for failing, not for waiting

// Hands each call the mailbox that the test prepared for its request_id: a call that was cancelled early may be served
// late, and must not take what is another's.
class FakeService final : public grpc::Service {
 public:
  FakeService() {
    Serve("/ebbinghaus.v1.InferenceService/Generate", StreamEvents);
    Serve("/ebbinghaus.v1.InferenceService/Complete", CollectEvents);
  }

  void Use(const std::string& request_id, std::shared_ptr<Mailbox> mailbox) {
    std::lock_guard lock(mutex_);
    mailboxes_[request_id] = std::move(mailbox);
  }

  int served() const { return served_; }

 private:
  using Answering = void (*)(const std::shared_ptr<IncomingCall>&, std::shared_ptr<Mailbox>);

  void Serve(const char* path, Answering answer) {
    AddMethod(new grpc::internal::RpcServiceMethod(path, grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
    MarkMethodRawCallback(methods_++, new grpc::internal::CallbackBidiHandler<grpc::ByteBuffer, grpc::ByteBuffer>(
                                          [this, answer](grpc::CallbackServerContext* context) {
                                            IncomingCall::Plan plan;
                                            plan.max_request_bytes = 1024;
                                            plan.gate = &gate_;
                                            plan.serve = [this, answer](const std::shared_ptr<IncomingCall>& call,
                                                                        const std::string& bytes) {
                                              v1::GenerateRequest request;
                                              request.ParseFromString(bytes);
                                              std::shared_ptr<Mailbox> mailbox = Find(request);
                                              if (mailbox != nullptr) return answer(call, std::move(mailbox));
                                              call->Refuse(absl::UnavailableError("no mailbox"));
                                            };
                                            return IncomingCall::Start(context, std::move(plan));
                                          }));
  }

  std::shared_ptr<Mailbox> Find(const v1::GenerateRequest& request) {
    std::lock_guard lock(mutex_);
    ++served_;
    return mailboxes_[request.request_id()];
  }

  const base::SteadyClock clock_;
  RequestGate gate_{1 << 20, &clock_};
  int methods_ = 0;
  std::atomic<int> served_{0};
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Mailbox>> mailboxes_;
};

scheduler::Started Started() {
  scheduler::Started started;
  started.request_id = "id";
  started.spec = std::make_shared<base::SequenceSpec>();
  return started;
}

scheduler::TokenEvent Token(base::TokenId id, std::string text = "t") {
  scheduler::TokenEvent token;
  token.token.id = id;
  token.text = std::move(text);
  return token;
}

class CallReactorsTest : public testing::Test {
 protected:
  void SetUp() override {
    GrpcServerOptions options;
    auto server = GrpcServer::Start(options, &service_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    stub_ = v1::InferenceService::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(server_->port()), grpc::InsecureChannelCredentials()));
    mailbox_ = std::make_shared<Mailbox>(1024);
    service_.Use("", mailbox_);
    context_.set_deadline(std::chrono::system_clock::now() + kLimit);
  }

  static void WaitUntil(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + kLimit;
    while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    EXPECT_TRUE(condition());
  }

  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> Generate() { return stub_->Generate(&context_, {}); }

  FakeService service_;
  std::unique_ptr<GrpcServer> server_;
  std::unique_ptr<v1::InferenceService::Stub> stub_;
  std::shared_ptr<Mailbox> mailbox_;
  grpc::ClientContext context_;
};

TEST_F(CallReactorsTest, EventsArriveInOrderAndTheStreamEndsOk) {
  std::thread engine([this] {
    mailbox_->Push(Started());
    for (base::TokenId id = 0; id < 200; ++id) mailbox_->Push(Token(id));
    mailbox_->Push(scheduler::Finished{});
  });
  auto stream = Generate();
  std::vector<v1::GenerateResponse> events;
  for (v1::GenerateResponse event; stream->Read(&event);) events.push_back(event);
  EXPECT_TRUE(stream->Finish().ok());
  engine.join();
  ASSERT_EQ(events.size(), 202u);
  EXPECT_EQ(events.front().started().request_id(), "id");
  for (base::TokenId id = 0; id < 200; ++id) EXPECT_EQ(events[id + 1].token().id(), id);
  EXPECT_TRUE(events.back().has_finished());
}

TEST_F(CallReactorsTest, AStatusEndsTheStream) {
  mailbox_->Push(Started());
  mailbox_->Push(absl::InternalError("broken"));
  auto stream = Generate();
  v1::GenerateResponse event;
  EXPECT_TRUE(stream->Read(&event));
  EXPECT_FALSE(stream->Read(&event));
  grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), "broken");
}

TEST_F(CallReactorsTest, ARejectedCallEndsWithItsStatus) {
  service_.Use("", nullptr);
  EXPECT_EQ(Generate()->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(CallReactorsTest, TheClientsCancellationReachesTheMailbox) {
  std::atomic<int> woken{0};
  mailbox_->SetWake([&woken] { ++woken; });
  mailbox_->Push(Started());
  auto stream = Generate();
  v1::GenerateResponse event;
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_FALSE(mailbox_->cancelled());
  context_.TryCancel();
  WaitUntil([&] { return mailbox_->cancelled(); });
  WaitUntil([&] { return woken > 0; });
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  mailbox_->Push(Token(1));  // the engine has not noticed yet
  mailbox_->Push(absl::CancelledError(""));
}

TEST_F(CallReactorsTest, WhileTheClientDoesNotReadTheMailboxStaysFull) {
  for (int i = 0; i < 64; ++i) mailbox_->Push(Token(1, std::string(1 << 20, 'x')));
  mailbox_->Push(scheduler::Finished{});
  auto stream = Generate();
  v1::GenerateResponse event;
  ASSERT_TRUE(stream->Read(&event));  // now the call is served
  EXPECT_TRUE(mailbox_->full());
  int tokens = 1;
  while (stream->Read(&event)) tokens += event.has_token();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(tokens, 64);
  EXPECT_FALSE(mailbox_->full());
}

TEST_F(CallReactorsTest, CompleteGathersTheEvents) {
  mailbox_->Push(Started());
  mailbox_->Push(Token(5, "a"));
  mailbox_->Push(scheduler::MemoryEvent{});
  mailbox_->Push(Token(6, "é"));
  scheduler::Finished finished;
  finished.generated_tokens = 2;
  mailbox_->Push(finished);
  v1::CompleteResponse response;
  ASSERT_TRUE(stub_->Complete(&context_, {}, &response).ok());
  EXPECT_EQ(response.text(), "aé");
  EXPECT_THAT(response.token_ids().ids(), ElementsAre(5, 6));
  EXPECT_EQ(response.started().request_id(), "id");
  EXPECT_EQ(response.finished().usage().generated_tokens(), 2u);
}

TEST_F(CallReactorsTest, CompleteFailsWithTheStatus) {
  mailbox_->Push(Started());
  mailbox_->Push(Token(5, "a"));
  mailbox_->Push(absl::DeadlineExceededError("too late"));
  v1::CompleteResponse response;
  EXPECT_EQ(stub_->Complete(&context_, {}, &response).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(CallReactorsTest, AClientsDeadlineCancelsTheMailboxOfComplete) {
  // One whose time is over before it is served never has the mailbox: then a longer one.
  for (std::chrono::milliseconds time(20); service_.served() == 0; time *= 2) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + time);
    v1::CompleteResponse response;
    EXPECT_EQ(stub_->Complete(&context, {}, &response).error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  }
  WaitUntil([this] { return mailbox_->cancelled(); });
}

// A cancelled call may end before, while or after the engine pushes; nothing may leak, crash or hang.
TEST_F(CallReactorsTest, CancellingAtAnyMomentLetsGoOfTheMailbox) {
  for (int round = 0; round < 300; ++round) {
    auto mailbox = std::make_shared<Mailbox>(1024);
    std::weak_ptr<Mailbox> watched = mailbox;
    v1::GenerateRequest request;
    request.set_request_id(std::to_string(round));
    service_.Use(request.request_id(), mailbox);
    std::thread engine([mailbox = std::move(mailbox), round] {
      for (base::TokenId id = 0; id < 20 && !mailbox->cancelled(); ++id) {
        mailbox->Push(Token(id));
        for (int spin = 0; spin < round % 7; ++spin) std::this_thread::yield();
      }
      if (round % 3 == 0) mailbox->Push(scheduler::Finished{});
      if (round % 3 == 1) mailbox->Push(absl::CancelledError(""));
    });
    {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kLimit);
      if (round % 2 == 0) {
        auto stream = stub_->Generate(&context, request);
        v1::GenerateResponse event;
        for (int i = 0; i < round % 5; ++i) stream->Read(&event);
        context.TryCancel();
        stream->Finish();
      } else {
        std::thread canceller([&context] { context.TryCancel(); });
        v1::CompleteResponse response;
        stub_->Complete(&context, request, &response);
        canceller.join();
      }
    }
    engine.join();
    service_.Use(request.request_id(), nullptr);
    WaitUntil([&watched] { return watched.expired(); });
  }
}

}  // namespace
}  // namespace ebbinghaus::rpc
