#include "server/rpc/tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::rpc {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::Optional;

const std::string kAnnas = "annas-secret-0123456789";
const std::string kBens = "bens-secret-0123456789!#";

std::string ErrorOf(const std::string& text) {
  absl::StatusOr<TokenSet> set = TokenSet::Parse(text);
  return set.ok() ? "" : std::string(set.status().message());
}

TEST(TokensTest, AFileNamesWhoHoldsWhichSecret) {
  absl::StatusOr<TokenSet> set =
      TokenSet::Parse("# tokens\n\nanna " + kAnnas + "\n  ben.2_x-y \t" + kBens + "  \r\n#x y z\nlast " + std::string(16, 'x'));
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ(set->size(), 3u);
  EXPECT_THAT(set->Find(kAnnas), Optional(std::string("anna")));
  EXPECT_THAT(set->Find(kBens), Optional(std::string("ben.2_x-y")));
  EXPECT_THAT(set->Find(std::string(16, 'x')), Optional(std::string("last")));
}

TEST(TokensTest, OnlyTheWholeSecretIsKnown) {
  absl::StatusOr<TokenSet> set = TokenSet::Parse("anna " + kAnnas + "\nben " + kBens);
  ASSERT_TRUE(set.ok());
  for (const std::string& wrong : {std::string(), std::string("anna"), kAnnas + "x", kAnnas.substr(1), kAnnas + kBens,
                                   kAnnas.substr(0, kAnnas.size() - 1), kAnnas + '\0', " " + kAnnas}) {
    EXPECT_EQ(set->Find(wrong), std::nullopt) << wrong;
  }
}

TEST(TokensTest, EveryRuleIsToldWithItsLineAndNothingOfTheFile) {
  const std::string good = "anna " + kAnnas + "\n";
  const std::string secret = "Very-Secret-Words-Here";
  for (const auto& [text, expected] : std::vector<std::pair<std::string, std::string>>{
           {good + secret, "line 2: expected `NAME SECRET`"},
           {good + "ben " + secret + " more", "line 2: expected `NAME SECRET`"},
           {good + "\nb@n " + secret, "line 3: the name must be"},
           {good + std::string(65, 'n') + " " + secret, "line 2: the name must be"},
           {good + "ben " + secret.substr(0, 15), "line 2: the secret must be 16 to 1024"},
           {good + "ben " + std::string(1025, 'S'), "line 2: the secret must be"},
           {good + "ben " + secret + "\x80", "line 2: the secret must be"},
           {good + "ben " + secret + std::string(1, '\0'), "line 2: the secret must be"},
           {good + "#\nanna " + secret, "line 3: the same name as line 1"},
           {good + "ben " + kAnnas, "line 2: the same secret as line 1"},
           {"", "holds no token"},
           {"# anna " + secret + "\n", "holds no token"}}) {
    EXPECT_THAT(ErrorOf(text), AllOf(HasSubstr(expected), Not(HasSubstr("Very")), Not(HasSubstr("anna")),
                                     Not(HasSubstr("ben")), Not(HasSubstr("SSS"))));
  }
}

TEST(TokensTest, AStoreKeepsItsTokensWhenTheNextAreBroken) {
  TokenStore store;
  EXPECT_EQ(store.Find(kAnnas), std::nullopt);
  ASSERT_TRUE(store.Set("anna " + kAnnas).ok());
  EXPECT_EQ(store.Set("anna short").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store.Set("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(store.Find(kAnnas), Optional(std::string("anna")));
  ASSERT_TRUE(store.Set("ben " + kBens).ok());
  EXPECT_EQ(store.Find(kAnnas), std::nullopt);
  EXPECT_THAT(store.Find(kBens), Optional(std::string("ben")));
}

TEST(TokensTest, AStoreMayBeAskedWhileItsTokensAreReplaced) {
  TokenStore store;
  ASSERT_TRUE(store.Set("anna " + kAnnas).ok());
  std::atomic<bool> done = false;
  std::thread asking([&] {
    while (!done) EXPECT_THAT(store.Find(kAnnas), Optional(std::string("anna")));
  });
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(store.Set(absl::StrCat("anna ", kAnnas, "\nben ", kBens, i)).ok());
  done = true;
  asking.join();
}

TEST(TokensTest, ManyTokensAreReadAndFound) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) absl::StrAppend(&text, "name-", i, " secret-of-number-", i, "\n");
  absl::StatusOr<TokenSet> set = TokenSet::Parse(text);
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_THAT(set->Find("secret-of-number-19999"), Optional(std::string("name-19999")));
  EXPECT_THAT(set->Find("secret-of-number-0"), Optional(std::string("name-0")));
}

}  // namespace
}  // namespace ebbinghaus::rpc
