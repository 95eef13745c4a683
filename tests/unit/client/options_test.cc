#include "client/options.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ebbinghaus::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string ErrorOf(const std::vector<std::string>& arguments) {
  auto line = ParseCommandLine(arguments);
  return line.ok() ? "" : std::string(line.status().message());
}

TEST(OptionsTest, EveryFlagOfGenerateArrivesWhereItBelongs) {
  auto line = ParseCommandLine({"generate",
                                "--target",
                                "host:1",
                                "--prompt=a=b",
                                "--mode",
                                "sparse_attention",
                                "--preset",
                                "tight",
                                "--memory",
                                "time_step=0.5,scope=per_layer",
                                "--max-tokens",
                                "7",
                                "--ignore-eos",
                                "--temperature",
                                "0",
                                "--top-p=0.5",
                                "--top-k",
                                "3",
                                "--seed",
                                "18446744073709551615",
                                "--system",
                                "be brief",
                                "--affinity",
                                "conversation-7",
                                "--json",
                                "--verbose",
                                "--timeout",
                                "1.5"});
  ASSERT_TRUE(line.ok()) << line.status();
  const Options& o = line->options;
  EXPECT_EQ(o.command, Command::kGenerate);
  EXPECT_EQ(o.target, "host:1");
  EXPECT_EQ(o.prompt, "a=b");
  EXPECT_EQ(o.mode, v1::GENERATION_MODE_SPARSE_ATTENTION);
  EXPECT_EQ(o.memory.preset(), v1::MEMORY_PRESET_TIGHT);
  EXPECT_EQ(o.memory.time_step(), 0.5);
  EXPECT_EQ(o.memory.scope(), v1::FORGET_SCOPE_PER_LAYER);
  EXPECT_EQ(o.max_tokens, 7u);
  EXPECT_EQ(o.ignore_eos, true);
  EXPECT_TRUE(o.sampling.has_temperature());
  EXPECT_EQ(o.sampling.temperature(), 0);
  EXPECT_EQ(o.sampling.top_p(), 0.5);
  EXPECT_EQ(o.sampling.top_k(), 3u);
  EXPECT_EQ(o.sampling.seed(), 18446744073709551615u);
  EXPECT_EQ(o.system, "be brief");
  EXPECT_EQ(o.affinity, "conversation-7");
  EXPECT_TRUE(o.json && o.verbose);
  EXPECT_EQ(o.timeout, absl::Milliseconds(1500));
}

TEST(OptionsTest, WhatIsNotGivenStaysUnset) {
  auto line = ParseCommandLine({"generate"});
  ASSERT_TRUE(line.ok());
  const Options& o = line->options;
  EXPECT_EQ(o.target, "127.0.0.1:50051");
  EXPECT_FALSE(o.mode || o.max_tokens || o.ignore_eos || o.timeout || o.prompt || o.system);
  EXPECT_EQ(o.memory.ByteSizeLong(), 0u);
  EXPECT_EQ(o.sampling.ByteSizeLong(), 0u);
}

TEST(OptionsTest, ASwitchCanBeTurnedOff) {
  auto line = ParseCommandLine({"compare", "--ignore-eos=off"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->options.ignore_eos, false);
}

TEST(OptionsTest, AnUnknownCommandIsToldWhatThereIs) {
  EXPECT_THAT(
      ErrorOf({"top"}),
      AllOf(HasSubstr("'top'"), HasSubstr("generate, compare, bench, tokenize, info, health")));
  EXPECT_THAT(ErrorOf({}), HasSubstr("generate, compare"));
}

TEST(OptionsTest, WrongFlagsAndValuesAreNamed) {
  EXPECT_THAT(ErrorOf({"generate", "--tls", "f"}), HasSubstr("unknown flag --tls"));
  EXPECT_THAT(ErrorOf({"health", "--prompt", "x"}), HasSubstr("health has no flag --prompt"));
  EXPECT_THAT(ErrorOf({"compare", "--mode", "baseline"}), HasSubstr("compare has no flag --mode"));
  EXPECT_THAT(ErrorOf({"generate", "--max-tokens"}), HasSubstr("--max-tokens needs a value"));
  EXPECT_THAT(ErrorOf({"generate", "--max-tokens", "-1"}),
              HasSubstr("whole number from 0, got '-1'"));
  EXPECT_THAT(ErrorOf({"generate", "--temperature", "hot"}), HasSubstr("a number, got 'hot'"));
  EXPECT_THAT(ErrorOf({"generate", "--json=maybe"}), HasSubstr("on or off"));
  EXPECT_THAT(ErrorOf({"generate", "--mode", "dense"}),
              HasSubstr("baseline, soft_delete, sparse_attention"));
  EXPECT_THAT(ErrorOf({"generate", "--preset", "x"}), HasSubstr("original, default, chat, tight"));
  EXPECT_THAT(ErrorOf({"compare", "--repeat", "0"}), HasSubstr("whole number from 1"));
  EXPECT_THAT(ErrorOf({"generate", "hello"}), HasSubstr("--prompt"));
  EXPECT_THAT(ErrorOf({"generate", "--raw", "--system", "x"}), HasSubstr("--system"));
  EXPECT_THAT(ErrorOf({"generate", "--prompt", "x", "--prompt-file", "y"}), HasSubstr("not both"));
  for (const std::string& name : {std::string(), std::string(257, 'x'), std::string("a b"), std::string("caf\xc3\xa9")}) {
    EXPECT_THAT(ErrorOf({"generate", "--affinity", name}),
                HasSubstr("--affinity: takes 1 to 256 printable ASCII characters without spaces"));
  }
  EXPECT_EQ(ErrorOf({"generate", "--affinity", std::string(256, '~')}), "");
}

TEST(OptionsTest, EveryCommandTakesTlsAndAToken) {
  for (const char* command : {"generate", "compare", "tokenize", "info", "health"}) {
    auto line = ParseCommandLine({command, "--tls-ca", "ca", "--tls-cert", "cert", "--tls-key", "key",
                                  "--tls-server-name", "name", "--token-file", "token"});
    ASSERT_TRUE(line.ok()) << line.status();
    const Options& o = line->options;
    EXPECT_EQ(*o.tls_ca + *o.tls_cert + *o.tls_key + *o.tls_server_name + *o.token_file,
              "cacertkeynametoken");
    EXPECT_FALSE(o.allow_insecure_auth);
  }
}

TEST(OptionsTest, TlsFlagsThatNeedOneAnotherAreNamed) {
  for (const char* one : {"--tls-cert", "--tls-key"}) {
    EXPECT_THAT(ErrorOf({"health", "--tls-ca", "ca", one, "f"}),
                HasSubstr("--tls-cert and --tls-key: one is given without the other"));
  }
  EXPECT_THAT(ErrorOf({"health", "--tls-cert", "c", "--tls-key", "k"}),
              HasSubstr("--tls-cert: needs --tls-ca"));
  EXPECT_THAT(ErrorOf({"health", "--tls-server-name", "n"}),
              HasSubstr("--tls-server-name: needs --tls-ca"));
}

TEST(OptionsTest, ATimeoutIsAPositiveTime) {
  for (const char* bad : {"0", "-1", "nan", "inf", "soon", ""}) {
    EXPECT_THAT(ErrorOf({"health", std::string("--timeout=") + bad}), HasSubstr("--timeout"))
        << bad;
  }
  auto line = ParseCommandLine({"health", "--timeout", "500ms"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->options.timeout, absl::Milliseconds(500));
}

TEST(OptionsTest, HelpShowsOnlyTheFlagsOfTheCommand) {
  auto line = ParseCommandLine({"health", "--help"});
  ASSERT_TRUE(line.ok());
  EXPECT_EQ(line->action, CommandLine::Action::kHelp);
  EXPECT_THAT(line->help_text, AllOf(HasSubstr("--target"), Not(HasSubstr("--prompt"))));
}

}  // namespace
}  // namespace ebbinghaus::client
