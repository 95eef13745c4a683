#include "client/client.h"

#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "client/json.h"
#include "client/utf8.h"
#include "gmock/gmock.h"
#include "grpcpp/server_context.h"
#include "gtest/gtest.h"
#include "tests/unit/client/fake_server.h"
#include "tests/unit/client/program.h"

namespace ebbinghaus::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

grpc::Status PlayHello(grpc::ServerContext&, const v1::GenerateRequest& request,
                       FakeServer::Writer& writer) {
  return Play(Answer(request, {"Hel", "lo ", "\u4e2d"}), writer);
}

TEST(ClientTest, GenerateSendsStandardInputAsAChatAndPrintsTheText) {
  FakeServer server(PlayHello);
  Program program("Who?\n");
  EXPECT_EQ(program.Run({"generate", "--system", "Be brief."}, server.target()), 0)
      << program.err.str();
  EXPECT_EQ(program.out.str(), "Hello \u4e2d\n");
  EXPECT_EQ(program.err.str(), "");
  ASSERT_EQ(server.requests().size(), 1u);
  const v1::GenerateRequest request = server.requests()[0];
  ASSERT_EQ(request.chat().messages_size(), 2);
  EXPECT_EQ(request.chat().messages(0).role(), "system");
  EXPECT_EQ(request.chat().messages(0).content(), "Be brief.");
  EXPECT_EQ(request.chat().messages(1).role(), "user");
  EXPECT_EQ(request.chat().messages(1).content(), "Who?");
  EXPECT_FALSE(request.has_generation_mode() || request.has_sampling() || request.has_memory() ||
               request.has_max_new_tokens() || request.has_ignore_eos());
}

TEST(ClientTest, ARawPromptFileIsSentByteForByte) {
  FakeServer server(PlayHello);
  std::string path = ::testing::TempDir() + "prompt_XXXXXX";
  const int descriptor = mkstemp(path.data());
  ASSERT_GE(descriptor, 0);
  close(descriptor);
  std::ofstream(path) << "line\n\n";
  Program program;
  EXPECT_EQ(program.Run({"generate", "--raw", "--prompt-file", path}, server.target()), 0)
      << program.err.str();
  std::remove(path.c_str());
  EXPECT_EQ(server.requests().at(0).text(), "line\n\n");
}

// What arrived as `ebbinghaus-affinity`, one string per call and value.
std::vector<std::string> AffinityOf(std::vector<std::string> arguments) {
  std::vector<std::string> names;
  FakeServer server([&](grpc::ServerContext& context, const v1::GenerateRequest& request,
                        FakeServer::Writer& writer) {
    const auto [begin, end] = context.client_metadata().equal_range("ebbinghaus-affinity");
    for (auto at = begin; at != end; ++at) names.emplace_back(at->second.data(), at->second.size());
    return PlayHello(context, request, writer);
  });
  Program program;
  EXPECT_EQ(program.Run(std::move(arguments), server.target()), 0) << program.err.str();
  return names;
}

TEST(ClientTest, AffinityIsSentAsMetadataAndOnlyWhenGiven) {
  EXPECT_THAT(AffinityOf({"generate", "--prompt", "x", "--affinity", "talk-7"}),
              ::testing::ElementsAre("talk-7"));
  EXPECT_THAT(AffinityOf({"generate", "--prompt", "x"}), ::testing::IsEmpty());
}

TEST(ClientTest, JsonIsOneObjectPerEvent) {
  FakeServer server(PlayHello);
  Program program;
  EXPECT_EQ(program.Run({"generate", "--prompt", "x", "--json"}, server.target()), 0);
  std::istringstream lines(program.out.str());
  std::vector<std::string> kinds;
  for (std::string line; std::getline(lines, line);) {
    const Json event = Json::parse(line);
    ASSERT_EQ(event.size(), 1u);
    kinds.push_back(event.items().begin().key());
  }
  EXPECT_THAT(kinds, ::testing::ElementsAre("started", "token", "token", "token", "finished"));
}

TEST(ClientTest, VerboseTellsUsageAndMemoryOnStandardErrorOnly) {
  FakeServer server(PlayHello);
  Program program;
  EXPECT_EQ(program.Run({"generate", "--prompt", "x", "--mode", "soft_delete", "--verbose"},
                        server.target()),
            0);
  EXPECT_EQ(program.out.str(), "Hello \u4e2d\n");
  EXPECT_THAT(program.err.str(),
              AllOf(HasSubstr("soft_delete"), HasSubstr("7 prompt tokens"),
                    HasSubstr("length after 3 tokens"), HasSubstr("50.0 tokens/s"),
                    HasSubstr("27 forgotten"), HasSubstr("mean retention")));
}

TEST(ClientTest, TokensReachTheTerminalBeforeTheCallEnds) {
  // The server goes on only when the client has printed what came before.
  struct : std::stringbuf {
    int sync() override {
      std::lock_guard lock(mutex);
      shown = str();
      changed.notify_all();
      return 0;
    }
    std::mutex mutex;
    std::condition_variable changed;
    std::string shown;
  } screen;
  bool streamed = false;
  FakeServer server(
      [&](grpc::ServerContext&, const v1::GenerateRequest& request, FakeServer::Writer& writer) {
        const std::vector<v1::GenerateResponse> events = Answer(request, {"first", " second"});
        writer.Write(events[0]);
        writer.Write(events[1]);
        std::unique_lock lock(screen.mutex);
        streamed = screen.changed.wait_for(lock, std::chrono::seconds(20),
                                           [&] { return screen.shown == "first"; });
        lock.unlock();
        return Play({events.begin() + 2, events.end()}, writer);
      });
  std::istringstream in;
  std::ostream out(&screen);
  std::ostringstream err;
  Console console{in, out, err};
  Cancellation cancellation;
  EXPECT_EQ(client::Run({"generate", "--prompt", "x", "--target", server.target()}, console,
                        cancellation),
            0);
  EXPECT_TRUE(streamed);
  EXPECT_EQ(screen.str(), "first second\n");
}

TEST(ClientTest, AServersErrorIsToldWithItsCodeAfterTheTextSoFar) {
  FakeServer server(
      [](grpc::ServerContext&, const v1::GenerateRequest& request, FakeServer::Writer& writer) {
        writer.Write(Answer(request, {"begun"})[1]);
        return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "K/V memory is full");
      });
  Program program;
  EXPECT_EQ(program.Run({"generate", "--prompt", "x"}, server.target()), 1);
  EXPECT_EQ(program.out.str(), "begun\n");
  EXPECT_EQ(program.err.str(), "ebbinghaus: RESOURCE_EXHAUSTED: K/V memory is full\n");
}

// Erases the screen, in both forms of the escape, and begins a line that looks like the program's own.
constexpr char kHostile[] = "bad\x1b[2J\u009b2J\x7f\nebbinghaus: all is well\r\b";

bool IsSafe(const std::string& shown) {
  for (std::string_view rest = shown; !rest.empty();) {
    const char32_t c = TakeCodePoint(rest);
    if ((c < 0x20 && c != '\n') || (c >= 0x7F && c < 0xA0)) return false;
  }
  return true;
}

TEST(ClientTest, NothingThatAServerSaysMovesTheTerminalsCursor) {
  FakeServer server(
      [](grpc::ServerContext&, const v1::GenerateRequest& request, FakeServer::Writer& writer) {
        for (v1::GenerateResponse& event : Answer(request, {kHostile})) {
          if (event.has_started()) event.mutable_started()->set_model(kHostile);
          if (event.has_started()) event.mutable_started()->set_request_id(kHostile);
          writer.Write(event);
        }
        return grpc::Status(grpc::StatusCode::INTERNAL, kHostile);
      });
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{"generate", "--prompt", "x"},
                                             {"generate", "--prompt", "x", "--verbose"},
                                             {"generate", "--prompt", "x", "--json"},
                                             {"compare", "--prompt", "x", "--verbose"}}) {
    Program program;
    program.console.out_is_terminal = true;
    EXPECT_EQ(program.Run(more, server.target()), 1);
    EXPECT_TRUE(IsSafe(program.out.str())) << more.front() << program.out.str();
    EXPECT_TRUE(IsSafe(program.err.str())) << more.front() << program.err.str();
    EXPECT_THAT(program.err.str(), Not(HasSubstr("\nebbinghaus: all is well"))) << more.front();
  }
}

TEST(ClientTest, AModelsNameIsShownOnOneHarmlessLine) {
  FakeServer server(PlayHello);
  server.SetModelName(kHostile);
  Program text, json;
  EXPECT_EQ(text.Run({"info"}, server.target()), 0);
  EXPECT_TRUE(IsSafe(text.out.str())) << text.out.str();
  EXPECT_THAT(text.out.str(), Not(HasSubstr("\nebbinghaus: all is well")));
  EXPECT_EQ(json.Run({"info", "--json"}, server.target()), 0);
  EXPECT_TRUE(IsSafe(json.out.str())) << json.out.str();
  EXPECT_EQ(Json::parse(json.out.str())["model"]["name"], kHostile);  // escaped, not changed
}

TEST(ClientTest, TokenPiecesAreShownWithoutControlCharacters) {
  FakeServer server(PlayHello);
  Program program(kHostile);
  EXPECT_EQ(program.Run({"tokenize", "--raw"}, server.target()), 0);
  EXPECT_TRUE(IsSafe(program.out.str())) << program.out.str();
}

TEST(ClientTest, AStreamWithoutAFinishedEventIsAFailure) {
  FakeServer server([](grpc::ServerContext&, const v1::GenerateRequest&, FakeServer::Writer&) {
    return grpc::Status::OK;
  });
  Program program;
  EXPECT_EQ(program.Run({"generate", "--prompt", "x"}, server.target()), 1);
  EXPECT_THAT(program.err.str(), HasSubstr("INTERNAL"));
}

// Ends only when the client gives up.
grpc::Status WaitForCancel(grpc::ServerContext& context, const v1::GenerateRequest& request,
                           FakeServer::Writer& writer) {
  const v1::GenerateResponse token = Answer(request, {"x"})[1];
  while (!context.IsCancelled()) writer.Write(token);
  return grpc::Status::CANCELLED;
}

TEST(ClientTest, AnInterruptCancelsTheCall) {
  FakeServer server(WaitForCancel);
  // Interrupts as soon as the first text is printed.
  struct : std::stringbuf {
    int sync() override {
      cancellation->Trigger();
      return 0;
    }
    Cancellation* cancellation = nullptr;
  } screen;
  Cancellation cancellation;
  screen.cancellation = &cancellation;
  std::istringstream in;
  std::ostream out(&screen);
  std::ostringstream err;
  Console console{in, out, err};
  EXPECT_EQ(client::Run({"generate", "--prompt", "x", "--target", server.target()}, console,
                        cancellation),
            130);
  EXPECT_THAT(err.str(), HasSubstr("CANCELLED"));
}

TEST(ClientTest, TheTimeoutIsTheCallsDeadline) {
  FakeServer server(WaitForCancel);
  Program program;
  EXPECT_EQ(program.Run({"generate", "--prompt", "x", "--timeout", "300ms"}, server.target()), 1);
  EXPECT_THAT(program.err.str(), HasSubstr("DEADLINE_EXCEEDED"));
}

TEST(ClientTest, AnOutputThatCannotBeWrittenCancelsTheCall) {
  FakeServer server(WaitForCancel);
  Program program;
  program.out.setstate(std::ios::badbit);
  EXPECT_EQ(program.Run({"generate", "--prompt", "x"}, server.target()), 1);
  EXPECT_THAT(program.err.str(), HasSubstr("cannot write to standard output"));
}

TEST(ClientTest, AnUnreachableServerIsNamed) {
  std::string target;
  { target = FakeServer(PlayHello).target(); }  // nobody listens there any more
  Program program;
  EXPECT_EQ(program.Run({"health", "--timeout", "200ms"}, target), 1);
  EXPECT_THAT(program.err.str(), AllOf(HasSubstr("UNAVAILABLE"), HasSubstr(target)));
}

TEST(ClientTest, BadUsageIsToldBeforeAnyServerIsAsked) {
  FakeServer server(PlayHello);
  EXPECT_EQ(Program().Run({"serve"}, server.target()), 2);
  EXPECT_EQ(Program().Run({"generate", "--prompt", ""}, server.target()), 2);
  EXPECT_EQ(Program("\xff\n").Run({"generate"}, server.target()), 2);
  EXPECT_EQ(Program().Run({"generate", "--prompt-file", "/no/such/file"}, server.target()), 2);
  EXPECT_EQ(Program().Run({"generate", "--prompt-file", "/"}, server.target()), 2);
  EXPECT_TRUE(server.requests().empty());
}

TEST(ClientTest, TokenizeShowsIdsAndPieces) {
  FakeServer server(PlayHello);
  Program text("a\"\n\n"), json("ab");
  EXPECT_EQ(text.Run({"tokenize", "--raw"}, server.target()), 0);
  EXPECT_EQ(text.out.str(), "    97  \"a\"\n    34  \"\\\"\"\n    10  \"\\n\"\n    10  \"\\n\"\n");
  EXPECT_EQ(json.Run({"tokenize", "--json"}, server.target()), 0);
  EXPECT_EQ(Json::parse(json.out.str())["ids"], Json({97, 98}));
}

TEST(ClientTest, InfoShowsModelAndState) {
  FakeServer server(PlayHello);
  Program program;
  EXPECT_EQ(program.Run({"info"}, server.target()), 0);
  EXPECT_THAT(program.out.str(),
              AllOf(HasSubstr("fake"), HasSubstr("2048 tokens"), HasSubstr("serving for 1m1s"),
                    HasSubstr("soft_delete"), HasSubstr("3.0 MiB")));
}

TEST(ClientTest, HealthFollowsTheServersStatus) {
  FakeServer server(PlayHello);
  Program serving, draining;
  EXPECT_EQ(serving.Run({"health"}, server.target()), 0) << serving.err.str();
  EXPECT_EQ(serving.out.str(), "SERVING\n");
  server.SetServing(false);
  EXPECT_EQ(draining.Run({"health", "--json"}, server.target()), 1);
  EXPECT_EQ(draining.out.str(), "{\"status\":\"NOT_SERVING\"}\n");
}

}  // namespace
}  // namespace ebbinghaus::client
