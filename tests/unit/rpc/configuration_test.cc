#include "server/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace ebbinghaus {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

ParsedConfiguration Parse(std::vector<std::string> arguments,
                          std::map<std::string, std::string> environment = {}) {
  auto parsed = ParseConfiguration({std::move(arguments), std::move(environment)});
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.ok() ? *parsed : ParsedConfiguration{};
}

std::string Problems(std::vector<std::string> arguments,
                     std::map<std::string, std::string> environment = {}) {
  auto parsed = ParseConfiguration({std::move(arguments), std::move(environment)});
  EXPECT_FALSE(parsed.ok());
  return std::string(parsed.status().message());
}

// A file of this text, gone with the object.
class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text)
      : path_(testing::TempDir() + "ebbinghaus_" +
              testing::UnitTest::GetInstance()->current_test_info()->name() + ".conf") {
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(ConfigurationTest, DefaultsAreThoseOfTheContract) {
  Configuration c = Parse({"--model", "m.gguf"}).values;
  EXPECT_EQ(c.model, "m.gguf");
  EXPECT_EQ(ToString(c.listen), "127.0.0.1:50051");
  EXPECT_EQ(ToString(c.http_listen), "127.0.0.1:9464");
  EXPECT_EQ(c.max_batch, 16u);
  EXPECT_EQ(c.max_queue, 64u);
  EXPECT_EQ(c.default_mode, base::GenerationMode::kBaseline);
  EXPECT_EQ(c.default_preset, memory::Preset::kDefault);
  EXPECT_EQ(c.drain_timeout, seconds(30));
}

TEST(ConfigurationTest, FlagsMayBeWrittenWithSpaceOrEqualsSign) {
  EXPECT_EQ(Parse({"--model=a=b"}).values.model, "a=b");
  EXPECT_EQ(Parse({"--model", "m", "--default-mode=soft_delete"}).values.default_mode,
            base::GenerationMode::kSoftDelete);
}

TEST(ConfigurationTest, AFlagBeatsTheEnvironmentWhichBeatsTheFile) {
  ConfigFile file("model: from-file\nmax-batch = 3\nmax-queue: 4  # comment\n# comment\n\n");
  auto parsed = Parse({"--config", file.path(), "--max-batch", "5"},
                      {{"EBBINGHAUS_MAX_BATCH", "9"}, {"EBBINGHAUS_MAX_QUEUE", "7"}});
  EXPECT_EQ(parsed.values.model, "from-file");
  EXPECT_EQ(parsed.values.max_batch, 5u);
  EXPECT_EQ(parsed.values.max_queue, 7u);
  EXPECT_EQ(parsed.sources.at("model"), "file");
  EXPECT_EQ(parsed.sources.at("max-batch"), "flag");
  EXPECT_EQ(parsed.sources.at("max-queue"), "environment");
  EXPECT_EQ(parsed.sources.at("listen"), "default");
}

TEST(ConfigurationTest, TheFileMayBeNamedByTheEnvironment) {
  ConfigFile file("model: m\n");
  EXPECT_EQ(Parse({}, {{"EBBINGHAUS_CONFIG", file.path()}}).values.model, "m");
}

TEST(ConfigurationTest, WhatPrintConfigWritesIsAFileThatGivesTheSameValues) {
  auto parsed = Parse({"--model", "m", "--drain-timeout", "1500ms", "--kv-memory", "2GiB",
                       "--threads", "3", "--log-prompts", "--listen", "[::1]:0", "--auth-token-file", "/etc/to kens"});
  ConfigFile file(PrintConfiguration(parsed));
  Configuration again = Parse({"--config", file.path()}).values;
  EXPECT_EQ(again.model, "m");
  EXPECT_EQ(again.drain_timeout, milliseconds(1500));
  EXPECT_EQ(again.kv_memory_bytes, 2ull << 30);
  EXPECT_EQ(again.threads, 3u);
  EXPECT_TRUE(again.log_prompts);
  EXPECT_EQ(ToString(again.listen), "[::1]:0");
  EXPECT_EQ(again.max_context, 0u);
  EXPECT_EQ(again.auth_token_file, "/etc/to kens");
  EXPECT_EQ(again.tls_cert, "");
}

TEST(ConfigurationTest, EveryProblemIsNamedAtOnce) {
  ConfigFile file("max-batch: none\ncolour: red\nmax-queue: 1\nmax-queue: 2\nnonsense\n");
  std::string problems =
      Problems({"--listen", "nowhere", "--http-generate", "on", "--default-mode", "sparse", "stray",
                "--config", file.path()},
               {{"EBBINGHAUS_THREADS", "-1"}});
  EXPECT_THAT(problems,
              AllOf(HasSubstr("--listen"), HasSubstr("--http-generate: unknown flag"),
                    HasSubstr("--default-mode: expected baseline|soft_delete|sparse_attention"),
                    HasSubstr("'stray'"), HasSubstr("EBBINGHAUS_THREADS"), HasSubstr("max-batch"),
                    HasSubstr("unknown key 'colour'"), HasSubstr("'max-queue' is there twice"),
                    HasSubstr(":5: expected"), HasSubstr("--model: required")));
}

TEST(ConfigurationTest, FlagsOfLaterVersionsAreNotSilentlyAccepted) {
  for (const char* flag : {"--http-generate"}) {
    EXPECT_THAT(Problems({"--model", "m", flag, "1"}), HasSubstr("unknown flag")) << flag;
  }
  EXPECT_THAT(Problems({"--model", "m", "--weights", "int2"}), HasSubstr("auto|f32|bf16|int8|int4"));
  EXPECT_THAT(Problems({"--model", "m", "--engine", "fast"}), HasSubstr("auto|packed|reference"));
}

TEST(ConfigurationTest, AMissingValueIsAProblem) {
  EXPECT_THAT(Problems({"--model"}), HasSubstr("--model: needs a value"));
  EXPECT_THAT(Problems({"--model", "--threads", "1"}), HasSubstr("--model: needs a value"));
  EXPECT_THAT(Problems({"--model", ""}), HasSubstr("expected a path"));
}

TEST(ConfigurationTest, AnUnreadableFileIsAProblem) {
  EXPECT_THAT(Problems({"--model", "m", "--config", "/nonexistent/file"}),
              HasSubstr("cannot be read"));
  EXPECT_THAT(Problems({"--model", "m", "--config", testing::TempDir()}),
              HasSubstr("cannot be read"));
}

TEST(ConfigurationTest, EnvironmentVariablesThatNameNoOptionAreOneWarning) {
  auto parsed = Parse({"--model", "m"}, {{"EBBINGHAUS_MAX_BATCHES", "1"}, {"EBBINGHAUS_COLOUR", "x"}, {"PATH", "x"}});
  EXPECT_THAT(parsed.warnings, testing::ElementsAre(AllOf(HasSubstr("EBBINGHAUS_MAX_BATCHES"),
                                                          HasSubstr("EBBINGHAUS_COLOUR"), Not(HasSubstr("PATH")))));
  EXPECT_THAT(Parse({"--model", "m"}, {{"EBBINGHAUS_PORT", "50051"}}).warnings, testing::SizeIs(1));  // meant for us
}

TEST(ConfigurationTest, VariablesThatKubernetesMakesForServicesArePassedOverInSilence) {
  const std::map<std::string, std::string> environment = {
      {"EBBINGHAUS_SERVICE_HOST", "10.0.0.1"},
      {"EBBINGHAUS_SERVICE_PORT", "50051"},
      {"EBBINGHAUS_SERVICE_PORT_GRPC", "50051"},
      {"EBBINGHAUS_PORT", "tcp://10.0.0.1:50051"},
      {"EBBINGHAUS_PORT_50051_TCP", "tcp://10.0.0.1:50051"},
      {"EBBINGHAUS_PORT_50051_TCP_PROTO", "tcp"},
      {"EBBINGHAUS_PORT_50051_TCP_PORT", "50051"},
      {"EBBINGHAUS_PORT_50051_TCP_ADDR", "10.0.0.1"},
      {"EBBINGHAUS_HEADLESS_2_SERVICE_HOST", "10.0.0.2"},
      {"EBBINGHAUS_METRICS_PORT", "tcp://[fd00::1]:9464"},
      {"EBBINGHAUS_METRICS_PORT_9464_UDP_ADDR", "fd00::1"}};
  EXPECT_THAT(Parse({"--model", "m"}, environment).warnings, IsEmpty());
}

TEST(ConfigurationTest, QuotesKeepAValueAsItIs) {
  const std::pair<const char*, const char*> cases[] = {
      {"model: a b # c", "a b"},
      {"model: \"a # b\"", "a # b"},
      {"model: 'a # b'  # c", "a # b"},
      {"model = \" a \"\t# c", " a "},
      {"model:\"a\"\"b\"", "a\"b"},
      {"model: 'it''s'", "it's"},
      {"model: \"it's\"", "it's"},
      {"model: a\"b'c", "a\"b'c"},
      {"model: a#b", "a#b"},
      {"model:#b", "#b"},
      {"model: a\t# c", "a"},
      {"model: c:\\x\\\"", "c:\\x\\\""},
      {"\xef\xbb\xbfmodel: m", "m"},
      {"model: m\r\nmax-batch: 3\r\n", "m"},
      {"  model  :  m  ", "m"},
      {"model: a: b = c", "a: b = c"},
  };
  for (const auto& [text, model] : cases) {
    ConfigFile file(text);
    EXPECT_EQ(Parse({"--config", file.path()}).values.model, model) << text;
  }
}

TEST(ConfigurationTest, QuotesThatDoNotCloseAreAProblem) {
  const std::pair<const char*, const char*> cases[] = {
      {"model: \"a", "the closing quote \" is missing"}, {"model: 'a\"", "the closing quote ' is missing"},
      {"model: \"", "the closing quote"},                {"model: \"a\"\"", "the closing quote"},
      {"model: \"a\" b", "text follows"},               {"model: 'a'#b", "text follows"},
      {"model: # c", "expected a path"},                {"model: ''", "expected a path"}};
  for (const auto& [text, problem] : cases) {
    ConfigFile file(text);
    EXPECT_THAT(Problems({"--config", file.path()}), AllOf(HasSubstr(":1: model: "), HasSubstr(problem))) << text;
  }
}

TEST(ConfigurationTest, AnyValueReadsBackFromWhatPrintConfigWrites) {
  std::mt19937 random(7);
  const std::vector<std::string> pieces = {"\"", "'", "#", " #", "# ", "=", ":", "\\", " ", "\t", "a", "/", "\xc3\xa9",
                                           "\xe2\x80\xa8", "\xef\xbb\xbf", "\x1b", "\xff", "$x", "on", "-", "\v"};
  for (int round = 0; round < 2000; ++round) {
    std::string values[4];
    for (std::string& value : values) {
      for (size_t i = 0; i < 1 + random() % 6; ++i) value += pieces[random() % pieces.size()];
    }
    auto parsed = Parse({"--model=" + values[0], "--tls-cert=" + values[1], "--tls-key=" + values[2],
                         "--auth-token-file=" + values[3]});
    ConfigFile file(PrintConfiguration(parsed));
    Configuration again = Parse({"--config", file.path()}).values;
    EXPECT_EQ(again.model, values[0]);
    EXPECT_EQ(again.tls_cert, values[1]);
    EXPECT_EQ(again.tls_key, values[2]);
    EXPECT_EQ(again.auth_token_file, values[3]);
  }
}

TEST(ConfigurationTest, EveryDurationAndSizeReadsBack) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 500; ++round) {
    const auto text = std::to_string(random() % 2'000'000'000) + "." + std::to_string(random() % 1000) +
                      (round % 2 ? "ms" : "s");
    auto duration = ParseDuration(text);
    if (!duration.ok()) continue;
    auto parsed = Parse({"--model", "m", "--watchdog-timeout", text, "--kv-memory", std::to_string(1048576 + random() % (1u << 31))});
    ConfigFile file(PrintConfiguration(parsed));
    Configuration again = Parse({"--config", file.path()}).values;
    EXPECT_EQ(again.watchdog_timeout, *duration) << text;
    EXPECT_EQ(again.kv_memory_bytes, parsed.values.kv_memory_bytes);
  }
}

TEST(ConfigurationTest, APathWithALineEndIsNotPrintedAsAFileThatReadsBackOtherwise) {
  for (const char* flag : {"--model", "--auth-token-file"}) {
    EXPECT_THAT(Problems({"--print-config", flag, "a\nmax-batch: 1"}),
                AllOf(HasSubstr(flag), HasSubstr("has a line end"), HasSubstr("--print-config")));
    Parse({"--model", "m", flag, "a\nb"});
  }
}

TEST(ConfigurationTest, NumbersBeyondTheirLimitsNameThem) {
  for (const char* value : {"-1", "0", "4097", "4294967296", "4294967297", "1e3", "1e400", "99999999999999999999", "", " ", "3.0", "0x10", "NaN"}) {
    EXPECT_THAT(Problems({"--model", "m", std::string("--max-batch=") + value}), HasSubstr("an integer in [1, 4096]")) << value;
  }
  for (const char* value : {"-1s", "1e400s", "721h", "43201m", "9999999999999999999999s", "0.0000001ms", "1 s", "s", ".s", "1..s", "+1s"}) {
    EXPECT_THAT(Problems({"--model", "m", std::string("--drain-timeout=") + value}), HasSubstr("at most 30 days")) << value;
  }
  for (const char* value : {"-1", "1e400", "1e15", "1000000000000001", "999999TiB", "18446744073709551616", ".GiB", "1GiB2"}) {
    EXPECT_THAT(Problems({"--model", "m", std::string("--kv-memory=") + value}), HasSubstr("1e15 bytes")) << value;
  }
  EXPECT_EQ(Parse({"--model", "m", "--drain-timeout", "720h"}).values.drain_timeout, std::chrono::hours(720));
  EXPECT_EQ(Parse({"--model", "m", "--kv-memory", "1000000000000000"}).values.kv_memory_bytes, 1'000'000'000'000'000u);
  EXPECT_EQ(Parse({"--model", "m", "--drain-timeout", "0.0s"}).values.drain_timeout, seconds(0));
}

TEST(ConfigurationTest, ActionsNeedNoModel) {
  EXPECT_EQ(Parse({"--help"}).action, Action::kHelp);
  EXPECT_EQ(Parse({"--version"}).action, Action::kVersion);
  EXPECT_EQ(Parse({"--print-config"}).action, Action::kPrintConfig);
  EXPECT_EQ(Parse({"--check-config"}).action, Action::kCheckConfig);
  EXPECT_THAT(Problems({"--check-config", "--max-batch", "0"}), HasSubstr("[1, 4096]"));
}

TEST(ConfigurationTest, HelpNamesEveryOptionAndItsDefault) {
  std::string help = HelpText();
  for (const auto& [name, source] : Parse({"--model", "m"}).sources) {
    EXPECT_THAT(help, HasSubstr("--" + name + " "));
  }
  EXPECT_THAT(help, HasSubstr("(default 127.0.0.1:50051)"));
}

TEST(ConfigurationTest, ASwitchMayStandAloneOrTakeOnAndOff) {
  EXPECT_TRUE(Parse({"--model", "m", "--log-prompts"}).values.log_prompts);
  EXPECT_TRUE(Parse({"--log-prompts", "--model", "m"}).values.log_prompts);
  EXPECT_FALSE(Parse({"--model", "m", "--log-prompts", "off"}).values.log_prompts);
  EXPECT_FALSE(Parse({"--model", "m", "--reflection=off"}).values.reflection);
  EXPECT_TRUE(Parse({"--model", "m"}).values.prefix_cache);
  EXPECT_FALSE(Parse({"--model", "m", "--prefix-cache", "off"}).values.prefix_cache);
  EXPECT_THAT(Problems({"--model", "m", "--reflection", "maybe"}), HasSubstr("on or off"));
}

TEST(ConfigurationTest, DurationsHaveUnits) {
  EXPECT_EQ(*ParseDuration("500ms"), milliseconds(500));
  EXPECT_EQ(*ParseDuration("30s"), seconds(30));
  EXPECT_EQ(*ParseDuration("1.5s"), milliseconds(1500));
  EXPECT_EQ(*ParseDuration("2m"), seconds(120));
  EXPECT_EQ(*ParseDuration("1h"), seconds(3600));
  EXPECT_EQ(*ParseDuration("0"), seconds(0));
  for (const char* bad : {"", "s", "30", "-1s", "1d", "inf s", "nans", "infs", "1e99h", "30 s"}) {
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
  }
}

TEST(ConfigurationTest, TlsFilesComeTogether) {
  const std::string both = "--tls-cert and --tls-key: one is given without the other";
  EXPECT_THAT(Problems({"--model", "m", "--tls-cert", "c"}), HasSubstr(both));
  EXPECT_THAT(Problems({"--model", "m"}, {{"EBBINGHAUS_TLS_KEY", "k"}}), HasSubstr(both));
  EXPECT_THAT(Problems({"--model", "m", "--tls-client-ca", "a"}),
              HasSubstr("--tls-client-ca: needs --tls-cert and --tls-key"));
  EXPECT_THAT(Problems({"--check-config", "--tls-cert", "c"}), HasSubstr(both));
  Configuration c = Parse({"--model", "m", "--tls-cert", "c", "--tls-key", "k", "--tls-client-ca", "a"}).values;
  EXPECT_EQ(c.tls_cert + c.tls_key + c.tls_client_ca, "cka");
}

TEST(ConfigurationTest, AFileThatGotLostIsNoWayToOpenTheDoor) {
  for (const char* flag : {"--tls-cert", "--tls-key", "--tls-client-ca", "--auth-token-file"}) {
    EXPECT_THAT(Problems({"--model", "m", flag, ""}), HasSubstr(std::string(flag) + ": expected a file"));
  }
  EXPECT_THAT(Problems({"--model", "m"}, {{"EBBINGHAUS_AUTH_TOKEN_FILE", ""}}), HasSubstr("expected a file"));
  ConfigFile file("model: m\nauth-token-file:\n");
  EXPECT_THAT(Problems({"--config", file.path()}), HasSubstr("expected a file"));
}

TEST(ConfigurationTest, TokensCrossANetworkOnlyUnderTlsOrWhenAllowed) {
  const auto with = [](const std::string& listen, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"--model", "m", "--auth-token-file", "t", "--listen", listen};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  for (const char* far : {"0.0.0.0:1", "[::]:1", "10.0.0.1:1", "host:1", "localhost.example:1", "127.example:1",
                          "128.0.0.1:1", "[::2]:1"}) {
    EXPECT_THAT(Problems(with(far)), AllOf(HasSubstr("--auth-token-file"), HasSubstr(far),
                                           HasSubstr("--allow-insecure-auth"))) << far;
    Parse(with(far, {"--allow-insecure-auth"}));
    Parse(with(far, {"--tls-cert", "c", "--tls-key", "k"}));
  }
  for (const char* near : {"127.0.0.1:1", "127.1.2.3:1", "localhost:1", "LOCALHOST:1", "[::1]:1", "[0:0::1]:1"}) {
    EXPECT_FALSE(Parse(with(near)).values.allow_insecure_auth) << near;
  }
}

TEST(ConfigurationTest, SizesHaveBinaryAndDecimalUnits) {
  EXPECT_EQ(*ParseBytes("8GiB"), 8ull << 30);
  EXPECT_EQ(*ParseBytes("512MiB"), 512ull << 20);
  EXPECT_EQ(*ParseBytes("1.5KiB"), 1536u);
  EXPECT_EQ(*ParseBytes("2GB"), 2000000000u);
  EXPECT_EQ(*ParseBytes("123"), 123u);
  for (const char* bad : {"", "GiB", "-1", "8G iB", "1e300", "nan", "inf", "8XB", "0x10"}) {
    EXPECT_FALSE(ParseBytes(bad).ok()) << bad;
  }
}

TEST(ConfigurationTest, AddressesHaveAHostAndAPort) {
  EXPECT_EQ(ParseHostPort("0.0.0.0:0")->port, 0);
  EXPECT_EQ(ParseHostPort("[::1]:50051")->host, "[::1]");
  for (const char* bad :
       {"", ":1", "host", "host:", "host:65536", "host:-1", "::1:50051", "host:1x", "[]:1"}) {
    EXPECT_FALSE(ParseHostPort(bad).ok()) << bad;
  }
}

TEST(ConfigurationTest, DevicesAreAutoCpuOrANumberedCudaDevice) {
  EXPECT_EQ(Parse({"--model", "m", "--device", "cuda:1"}).values.device, "cuda:1");
  for (const char* bad : {"gpu", "cuda", "cuda:", "cuda:x", "cuda:-1"}) {
    EXPECT_THAT(Problems({"--model", "m", "--device", bad}), HasSubstr("cuda:N")) << bad;
  }
}

}  // namespace
}  // namespace ebbinghaus
