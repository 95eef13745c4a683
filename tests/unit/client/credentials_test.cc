#include "client/credentials.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ebbinghaus::client {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class CredentialsTest : public ::testing::Test {
 protected:
  CredentialsTest() {
    std::string path = ::testing::TempDir() + "token_XXXXXX";
    const int descriptor = mkstemp(path.data());
    EXPECT_GE(descriptor, 0);
    close(descriptor);
    path_ = path;
  }
  ~CredentialsTest() override { std::remove(path_.c_str()); }

  absl::StatusOr<Credentials> Read(const std::string& token_file_text,
                                   const std::string& target = "127.0.0.1:1") {
    std::ofstream(path_, std::ios::binary) << token_file_text;
    options_.token_file = path_;
    options_.target = target;
    return ReadCredentials(options_);
  }

  std::string path_;
  Options options_;
};

TEST_F(CredentialsTest, ATokenIsTheLastWordOfTheOneLine) {
  for (const char* text : {"secret-0123456789", "anna secret-0123456789\n",
                           "# ours\n\n  anna\tsecret-0123456789 \r\n\n"}) {
    absl::StatusOr<Credentials> read = Read(text);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->token, "secret-0123456789");
    EXPECT_NE(read->channel, nullptr);
  }
}

TEST_F(CredentialsTest, AnythingElseIsRefusedWithoutQuotingIt) {
  for (const char* text : {"", "# nothing\n", "anna SECRET more", "anna SECRET\nben SECRET2",
                           "anna SECRET\x01", "SECRET\xc3\xa9"}) {
    const absl::Status status = Read(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("--token-file"), HasSubstr(path_), Not(HasSubstr("SECRET\x01")),
                      Not(HasSubstr("anna"))));
  }
}

TEST_F(CredentialsTest, AFileThatCannotBeReadIsNamed) {
  options_.tls_ca = "/nonexistent/ca.pem";
  EXPECT_THAT(std::string(ReadCredentials(options_).status().message()),
              AllOf(HasSubstr("--tls-ca"), HasSubstr("/nonexistent/ca.pem")));
  options_.tls_ca = ::testing::TempDir();
  EXPECT_FALSE(ReadCredentials(options_).ok());
}

TEST_F(CredentialsTest, ATokenLeavesThisMachineOnlyUnderTlsOrWhenAllowed) {
  const std::string token = "anna secret-0123456789";
  for (const char* far : {"10.0.0.1:1", "host:1", "localhost.example:1", "127.example:1",
                          "dns:///localhost:1", "[::2]:1"}) {
    EXPECT_THAT(std::string(Read(token, far).status().message()),
                AllOf(HasSubstr("--token-file"), HasSubstr(far), HasSubstr("--allow-insecure-auth")));
  }
  for (const char* near : {"127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/x"}) {
    EXPECT_TRUE(Read(token, near).ok()) << near;
  }
  options_.allow_insecure_auth = true;
  EXPECT_TRUE(Read(token, "host:1").ok());
}

}  // namespace
}  // namespace ebbinghaus::client
