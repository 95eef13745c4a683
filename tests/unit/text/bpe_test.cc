#include "server/text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace ebbinghaus::text {
namespace {

using base::TokenId;
using Ids = std::vector<TokenId>;

// A model over letters: its tokens are the letters, then the results of the merges.
class Model {
 public:
  Model(const std::string& letters, const std::vector<std::pair<std::string, std::string>>& merges,
        BpeOptions options = {.byte_level = true}) {
    for (const char letter : letters) Add(std::string(1, letter));
    std::vector<BpeMerge> resolved;
    for (const auto& [left, right] : merges) {
      const TokenId result = Add(left + right);
      resolved.push_back({Id(left), Id(right), result, static_cast<uint32_t>(resolved.size())});
    }
    std::vector<std::optional<std::string>> texts(tokens_.begin(), tokens_.end());
    bpe_ = Bpe(texts, resolved, options);
  }

  std::vector<std::string> Tokens(const std::string& text) {
    Ids ids;
    bpe_.Encode(text, stop_, scratch_, ids);
    std::vector<std::string> tokens;
    for (const TokenId id : ids) tokens.push_back(tokens_[id]);
    return tokens;
  }
  uint64_t Work(const std::string& text) {
    scratch_.queued = 0;
    Ids ids;
    bpe_.Encode(text, stop_, scratch_, ids);
    return scratch_.queued;
  }

 private:
  TokenId Id(const std::string& token) const { return ids_.at(token); }
  TokenId Add(const std::string& token) {
    const auto [entry, fresh] = ids_.emplace(token, tokens_.size());
    if (fresh) tokens_.push_back(token);
    return entry->second;
  }
  std::vector<std::string> tokens_;
  std::map<std::string, TokenId> ids_;
  Bpe bpe_;
  BpeScratch scratch_;
  const EncodeLimits limits_;
  EncodeStop stop_{limits_};
};

using Strings = std::vector<std::string>;

TEST(Bpe, MergesTheLowestRankFirstThenTheLeftmost) {
  Model model("abc", {{"b", "c"}, {"a", "b"}, {"a", "a"}});
  EXPECT_EQ(model.Tokens("abc"), (Strings{"a", "bc"}));
  EXPECT_EQ(model.Tokens("ab"), (Strings{"ab"}));
  EXPECT_EQ(model.Tokens("aaa"), (Strings{"aa", "a"}));
}

TEST(Bpe, MergesWhatMergingMadeNeighbours) {
  Model model("abcd", {{"a", "b"}, {"c", "d"}, {"ab", "cd"}});
  EXPECT_EQ(model.Tokens("abcdabc"), (Strings{"abcd", "ab", "c"}));
}

TEST(Bpe, LetsALaterMergeOfAPairCount) {
  // (ab, c) has a low rank at first and a high one in the end, behind (c, d).
  Model model("abcd", {{"a", "b"}, {"ab", "c"}, {"c", "d"}, {"ab", "c"}});
  EXPECT_EQ(model.Tokens("abcd"), (Strings{"ab", "cd"}));
}

TEST(Bpe, TakesAWholePieceThatIsATokenWhenMergesAreIgnored) {
  Model merged("abc", {{"a", "b"}, {"b", "c"}, {"a", "bc"}});
  EXPECT_EQ(merged.Tokens("abc"), (Strings{"ab", "c"}));
  Model whole("abc", {{"a", "b"}, {"b", "c"}, {"a", "bc"}},
              {.byte_level = true, .ignore_merges = true});
  EXPECT_EQ(whole.Tokens("abc"), (Strings{"abc"}));
  EXPECT_EQ(whole.Tokens("abca"), (Strings{"ab", "c", "a"}));
}

TEST(Bpe, EqualsMergingByHandOnRandomModelsAndTexts) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> tokens = {"a", "b", "c"};
    std::vector<std::pair<std::string, std::string>> merges;
    std::map<std::pair<std::string, std::string>, size_t> rank;
    for (int i = 0; i < 12; ++i) {
      const std::string left = tokens[random() % tokens.size()],
                        right = tokens[random() % tokens.size()];
      // One way to each token, so that no pair can stand in for another.
      if (std::find(tokens.begin(), tokens.end(), left + right) != tokens.end()) continue;
      rank[{left, right}] = merges.size();
      merges.emplace_back(left, right);
      tokens.push_back(left + right);
    }
    Model model("abc", merges);
    for (int repeat = 0; repeat < 10; ++repeat) {
      Strings wanted;
      for (int i = 0; i < 30; ++i) wanted.emplace_back(1, "abc"[random() % 3]);
      std::string text;
      for (const auto& letter : wanted) text += letter;
      while (true) {
        size_t best = merges.size(), at = 0;
        for (size_t i = 0; i + 1 < wanted.size(); ++i) {
          const auto found = rank.find({wanted[i], wanted[i + 1]});
          if (found != rank.end() && found->second < best) best = found->second, at = i;
        }
        if (best == merges.size()) break;
        wanted[at] += wanted[at + 1];
        wanted.erase(wanted.begin() + static_cast<ptrdiff_t>(at) + 1);
      }
      EXPECT_EQ(model.Tokens(text), wanted) << text;
    }
  }
}

TEST(Bpe, QueuesAtMostThreeMergesPerByteOfOneHugePiece) {
  std::vector<std::pair<std::string, std::string>> merges;
  std::string token = "a";
  for (int i = 0; i < 10; ++i, token += token) merges.emplace_back(token, token);
  Model model("ab", merges);
  for (const size_t size : {size_t{1} << 10, size_t{1} << 15, size_t{1} << 20}) {
    EXPECT_LE(model.Work(std::string(size, 'a')), 3 * size);
    EXPECT_GE(model.Work(std::string(size, 'a')), size - 1);
  }
}

TEST(TokenIndex, FindsWhatWasInsertedFirst) {
  TokenIndex index(3);
  EXPECT_TRUE(index.Insert("a", 4));
  EXPECT_TRUE(index.Insert("", 5));
  EXPECT_FALSE(index.Insert("a", 6));
  EXPECT_EQ(index.Find("a"), 4u);
  EXPECT_EQ(index.Find(""), 5u);
  EXPECT_EQ(index.Find("b"), kNoToken);
  EXPECT_EQ(TokenIndex().Find("a"), kNoToken);
}

}  // namespace
}  // namespace ebbinghaus::text
