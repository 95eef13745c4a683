#include "client/compare.h"

#include <sstream>

#include "client/client.h"
#include "client/compare_report.h"
#include "client/json.h"
#include "client/memory_flag.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/client/fake_server.h"

namespace ebbinghaus::client {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(MedianTest, IsTheMiddleOrTheMeanOfTheMiddleTwo) {
  EXPECT_EQ(Median({3}), 3);
  EXPECT_EQ(Median({9, 1, 5}), 5);
  EXPECT_EQ(Median({4, 1, 3, 100}), 3.5);
}

TEST(FirstDifferenceTest, IsCountedInTokensAndInCodePoints) {
  const std::vector<uint32_t> a = {1, 2, 3};
  EXPECT_EQ(FirstDifference(a, {1, 9, 3}), 1u);
  EXPECT_EQ(FirstDifference(a, {1, 2}), std::nullopt);
  EXPECT_EQ(FirstDifference(a, a), std::nullopt);
  EXPECT_EQ(FirstDifference(std::string_view("\u4e2d\u6587a"), std::string_view("\u4e2d\u6587b")),
            2u);
  EXPECT_EQ(FirstDifference(std::string_view("ab"), std::string_view("abc")), std::nullopt);
}

Options CompareOptions() {
  Options options;
  options.command = Command::kCompare;
  return options;
}

TEST(ModesToCompareTest, ModesAreOfEqualLengthGreedyAndShareASeed) {
  const std::vector<ComparedMode> modes = ModesToCompare(CompareOptions(), "hi");
  ASSERT_EQ(modes.size(), 3u);
  for (const ComparedMode& mode : modes) {
    EXPECT_EQ(mode.request.max_new_tokens(), 100u);
    EXPECT_TRUE(mode.request.ignore_eos());
    EXPECT_TRUE(mode.request.sampling().has_temperature());
    EXPECT_EQ(mode.request.sampling().temperature(), 0);
    EXPECT_EQ(mode.request.sampling().seed(), modes[0].request.sampling().seed());
    EXPECT_EQ(mode.request.chat().messages(0).content(), "hi");
    EXPECT_FALSE(mode.request.has_memory());
  }
}

TEST(ModesToCompareTest, TheOptionsGoBeforeTheDefaults) {
  Options options = CompareOptions();
  options.ignore_eos = false;
  options.max_tokens = 5;
  options.sampling.set_temperature(1);
  options.sampling.set_seed(42);
  for (const ComparedMode& mode : ModesToCompare(options, "hi")) {
    EXPECT_FALSE(mode.request.ignore_eos());
    EXPECT_EQ(mode.request.max_new_tokens(), 5u);
    EXPECT_EQ(mode.request.sampling().temperature(), 1);
    EXPECT_EQ(mode.request.sampling().seed(), 42u);
  }
}

TEST(ModesToCompareTest, TheTightRowHasItsPresetAndLength) {
  Options options = CompareOptions();
  options.ignore_eos = false;
  options.tight_tokens = 400;
  ASSERT_TRUE(ParseMemory("time_step=0.5,soft_floor=0.9,sink_tokens=2", options.memory).ok());
  const std::vector<ComparedMode> modes = ModesToCompare(options, "hi");
  ASSERT_EQ(modes.size(), 4u);
  EXPECT_FALSE(modes[0].request.has_memory());
  EXPECT_TRUE(modes[1].request.memory().has_soft_floor());
  EXPECT_FALSE(modes[1].request.memory().has_sink_tokens());
  EXPECT_TRUE(modes[2].request.memory().has_sink_tokens());
  EXPECT_FALSE(modes[2].request.memory().has_soft_floor());
  EXPECT_EQ(modes[3].request.max_new_tokens(), 400u);
  EXPECT_TRUE(modes[3].request.ignore_eos());
  EXPECT_EQ(modes[3].request.memory().ShortDebugString(), "preset: MEMORY_PRESET_TIGHT");
}

// Soft delete leaves baseline's words at its second token; sparse attention says the same.
grpc::Status PlayModes(grpc::ServerContext&, const v1::GenerateRequest& request,
                       FakeServer::Writer& writer) {
  const bool soft = request.generation_mode() == v1::GENERATION_MODE_SOFT_DELETE;
  std::vector<v1::GenerateResponse> events = Answer(request, {"one ", soft ? "2" : "two"});
  if (soft) events[2].mutable_token()->set_id(77);
  return Play(events, writer);
}

struct Ran {
  int exit_code;
  std::string out, err;
};

Ran RunWith(const FakeServer& server, std::vector<std::string> arguments) {
  std::istringstream in("hello\n");
  std::ostringstream out, err;
  Console console{in, out, err, false, false, 80};
  Cancellation cancellation;
  arguments.insert(arguments.end(), {"--target", server.target()});
  const int exit_code = Run(arguments, console, cancellation);
  return {exit_code, out.str(), err.str()};
}

TEST(CompareTest, TheTableHasARowPerModeAndTheDifferencesFollow) {
  FakeServer server(PlayModes);
  const Ran ran = RunWith(server, {"compare"});
  EXPECT_EQ(ran.exit_code, 0) << ran.err;
  EXPECT_THAT(
      ran.out,
      AllOf(HasSubstr("live/forgotten tokens"), HasSubstr("baseline "), HasSubstr("80/27"),
            HasSubstr("soft_delete first differs from baseline at token 1, character 4: \"2\" "
                      "instead of \"two\""),
            HasSubstr("sparse_attention says the same as baseline in all 2 tokens")));
  EXPECT_THAT(ran.out, Not(HasSubstr("mean retention")));
}

TEST(CompareTest, VerboseShowsTextsAndMemoryPerLayer) {
  FakeServer server(PlayModes);
  const Ran ran = RunWith(server, {"compare", "--verbose"});
  EXPECT_THAT(ran.out,
              AllOf(HasSubstr("one two                  | one 2"), HasSubstr("mean retention"),
                    HasSubstr("0.7500"), HasSubstr("80 of 107 tokens live, 27 forgotten")));
}

TEST(CompareTest, AWarmUpPerModeComesFirstAndTheModesTakeTurns) {
  FakeServer server(PlayModes);
  ASSERT_EQ(RunWith(server, {"compare", "--repeat", "2", "--max-tokens", "20"}).exit_code, 0);
  std::vector<std::string> order;
  for (const v1::GenerateRequest& request : server.requests()) {
    order.push_back(ShortName(request.generation_mode()) +
                    (request.max_new_tokens() < 20 ? " brief" : ""));
  }
  EXPECT_THAT(order, ElementsAre("baseline brief", "soft_delete brief", "sparse_attention brief",
                                 "baseline", "soft_delete", "sparse_attention", "soft_delete",
                                 "sparse_attention", "baseline"));
}

TEST(CompareTest, JsonIsOneDocumentWithEveryRun) {
  FakeServer server(PlayModes);
  const Ran ran = RunWith(server, {"compare", "--json", "--repeat", "3", "--tight-tokens", "4"});
  ASSERT_EQ(ran.exit_code, 0) << ran.err;
  const Json document = Json::parse(ran.out);
  ASSERT_EQ(document["modes"].size(), 4u);
  EXPECT_EQ(document["modes"][0]["first_difference"], nullptr);
  EXPECT_EQ(document["modes"][1]["first_difference"]["token"], 1);
  EXPECT_EQ(document["modes"][1]["first_difference"]["character"], 4);
  EXPECT_EQ(document["modes"][1]["text"], "one 2");
  EXPECT_EQ(document["modes"][2]["runs"].size(), 3u);
  EXPECT_EQ(document["modes"][3]["name"], "sparse_attention (tight)");
  EXPECT_EQ(document["modes"][3]["tokens_per_second"], 50);
}

TEST(CompareTest, OneFailingModeFailsTheComparisonAndIsNamed) {
  FakeServer server([](grpc::ServerContext& context, const v1::GenerateRequest& request,
                       FakeServer::Writer& writer) {
    if (request.generation_mode() == v1::GENERATION_MODE_SPARSE_ATTENTION) {
      return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "queue is full");
    }
    return PlayModes(context, request, writer);
  });
  const Ran ran = RunWith(server, {"compare"});
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_EQ(ran.out, "");
  EXPECT_THAT(ran.err, HasSubstr("RESOURCE_EXHAUSTED: sparse_attention: queue is full"));
}

}  // namespace
}  // namespace ebbinghaus::client
