#include "server/rpc/grpc_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ebbinghaus/v1/inference.grpc.pb.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace ebbinghaus::rpc {
namespace {

using testing::HasSubstr;

class GrpcServerTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<GrpcServer>> Start(const std::string& host, uint16_t port) {
    GrpcServerOptions options;
    options.host = host;
    options.port = port;
    return GrpcServer::Start(options, &service_);
  }

  static grpc::StatusCode CallGetModel(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    v1::GetModelResponse response;
    return v1::InferenceService::NewStub(channel)->GetModel(&context, {}, &response).error_code();
  }

  v1::InferenceService::CallbackService service_;  // answers UNIMPLEMENTED
};

TEST_F(GrpcServerTest, PortZeroPicksAFreePortThatAnswers) {
  auto server = Start("127.0.0.1", 0);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_GT((*server)->port(), 0);
  auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string((*server)->port()), grpc::InsecureChannelCredentials());
  EXPECT_EQ(CallGetModel(channel), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcServerTest, APortInUseIsNeverShared) {
  auto first = Start("127.0.0.1", 0);
  ASSERT_TRUE(first.ok());
  auto second = Start("127.0.0.1", (*first)->port());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("127.0.0.1:" + std::to_string((*first)->port())));
}

TEST_F(GrpcServerTest, AnAddressThatIsNotHereIsAnError) {
  EXPECT_EQ(Start("192.0.2.1", 0).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(GrpcServerTest, InProcessChannelsNeedNoPort) {
  auto server = Start("", 0);
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(CallGetModel((*server)->InProcessChannel()), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GrpcServerTest, AfterShutdownCallsAreRefused) {
  auto server = Start("127.0.0.1", 0);
  ASSERT_TRUE(server.ok());
  auto channel = grpc::CreateChannel("127.0.0.1:" + std::to_string((*server)->port()), grpc::InsecureChannelCredentials());
  EXPECT_EQ(CallGetModel(channel), grpc::StatusCode::UNIMPLEMENTED);
  (*server)->Shutdown(std::chrono::seconds(1));
  EXPECT_EQ(CallGetModel(channel), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace ebbinghaus::rpc
