#include "client/bench.h"

#include <atomic>
#include <fstream>
#include <set>
#include <sstream>

#include "client/bench_report.h"
#include "client/client.h"
#include "gmock/gmock.h"
#include "grpcpp/server_context.h"
#include "gtest/gtest.h"
#include "tests/unit/client/fake_server.h"
#include "tests/unit/client/program.h"

namespace ebbinghaus::client {
namespace {

using ::testing::HasSubstr;

grpc::Status PlayThree(grpc::ServerContext&, const v1::GenerateRequest& request,
                       FakeServer::Writer& writer) {
  return Play(Answer(request, {"a", "b", "c"}), writer);
}

TEST(BenchTest, EveryClientGetsAsManyAnswersAsItWants) {
  FakeServer server(PlayThree);
  Program program;
  ASSERT_EQ(program.Run({"bench", "--clients", "4", "--requests", "3", "--prompt-tokens", "9", "--json"},
                        server.target()),
            0)
      << program.err.str();
  const Json summary = Json::parse(program.out.str());
  EXPECT_EQ(summary["calls"], Json({{"OK", 12}}));
  EXPECT_EQ(summary["tokens"], 36);
  EXPECT_GT(summary["tokens_per_second"], 0);
  EXPECT_GT(summary["client_cpu_seconds"], 0);
  EXPECT_TRUE(summary["refusal_seconds"].is_null());
  std::set<std::string> prompts;
  for (const v1::GenerateRequest& request : server.requests()) {
    EXPECT_EQ(request.token_ids().ids_size(), 9);
    EXPECT_EQ(request.max_new_tokens(), kBenchTokens);
    EXPECT_TRUE(request.ignore_eos());
    prompts.insert(request.token_ids().SerializeAsString());
  }
  EXPECT_EQ(prompts.size(), 12u);
}

TEST(BenchTest, ARefusedCallIsRepeatedWhenTheServerSaidSo) {
  std::atomic<int> calls = 0;
  FakeServer server([&](grpc::ServerContext& context, const v1::GenerateRequest& request,
                        FakeServer::Writer& writer) {
    if (calls++ > 0) return PlayThree(context, request, writer);
    context.AddTrailingMetadata("grpc-retry-pushback-ms", "30");
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "full");
  });
  Options options;
  options.target = server.target();
  options.clients = 1;
  options.requests = 1;
  Cancellation cancellation;
  const absl::StatusOr<BenchResult> result = RunLoad(options, ReadCredentials(options).value(), cancellation);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->calls.size(), 2u);
  EXPECT_EQ(result->calls[0].retry_delay, absl::Milliseconds(30));
  EXPECT_GE(result->calls[1].start, result->calls[0].end + 0.03);
  EXPECT_EQ(server.requests()[0].token_ids().SerializeAsString(),
            server.requests()[1].token_ids().SerializeAsString());
  const Json summary = Summarize(options, *result);
  EXPECT_EQ(summary["calls"], Json({{"RESOURCE_EXHAUSTED", 1}, {"OK", 1}}));
  EXPECT_EQ(summary["tokens"], 3);
}

TEST(BenchTest, AnyOtherErrorEndsTheLoadAndIsTold) {
  FakeServer server([](grpc::ServerContext&, const v1::GenerateRequest&, FakeServer::Writer&) {
    return grpc::Status(grpc::StatusCode::INTERNAL, "broken");
  });
  Program program;
  EXPECT_EQ(program.Run({"bench", "--clients", "3", "--duration", "1h"}, server.target()), 1);
  EXPECT_THAT(program.out.str(), HasSubstr("INTERNAL"));
  EXPECT_THAT(program.err.str(), HasSubstr("broken"));
}

TEST(BenchTest, ModesAreTakenInTurnAndTheTraceHasALinePerCall) {
  FakeServer server(PlayThree);
  Program program;
  const std::string path = ::testing::TempDir() + "bench_trace.jsonl";
  ASSERT_EQ(program.Run({"bench", "--clients", "1", "--requests", "3", "--mode", "baseline,soft_delete",
                         "--trace", path},
                        server.target()),
            0)
      << program.err.str();
  std::ifstream file(path);
  std::vector<std::string> modes;
  for (std::string line; std::getline(file, line);) {
    const Json call = Json::parse(line);
    modes.push_back(call["mode"]);
    EXPECT_EQ(call["token_times"].size(), 3u);
    EXPECT_GE(call["token_times"][0], call["start"]);
  }
  std::remove(path.c_str());
  EXPECT_EQ(modes, (std::vector<std::string>{"baseline", "soft_delete", "baseline"}));
}

TEST(BenchTest, ThePercentilesAreNearestRanks) {
  Options options;
  BenchResult result;
  result.seconds = 100;
  BenchCall call;
  call.token_times = {0};
  for (int i = 1; i <= 100; ++i) call.token_times.push_back(call.token_times.back() + i * 0.01);
  result.calls.push_back(call);
  const Json gaps = Summarize(options, result)["inter_token_seconds"];
  EXPECT_NEAR(gaps["median"], 0.50, 1e-9);
  EXPECT_NEAR(gaps["p99"], 0.99, 1e-9);
  EXPECT_NEAR(gaps["max"], 1.00, 1e-9);
}

}  // namespace
}  // namespace ebbinghaus::client
