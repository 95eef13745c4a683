#include "server/text/text_stream.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;
using Ids = std::vector<TokenId>;
using Strings = std::vector<std::string>;

// Tokens are what the test says; there is nothing to encode.
class FakeTokenizer final : public Tokenizer {
 public:
  explicit FakeTokenizer(Strings pieces, TextEnds ends = {})
      : pieces_(std::move(pieces)), ends_(std::move(ends)) {}
  std::string_view Piece(TokenId id) const override { return pieces_[id]; }
  bool IsSpecial(TokenId id) const override { return pieces_[id].front() == '<'; }
  uint32_t size() const override { return static_cast<uint32_t>(pieces_.size()); }
  std::optional<TokenId> bos_token_id() const override { return std::nullopt; }
  bool adds_bos() const override { return false; }
  TextEnds text_ends() const override { return ends_; }
  std::string FirstPiece(TokenId id) const override {
    return pieces_[id].substr(0, 2) == "##" ? pieces_[id].substr(2) : pieces_[id];
  }

 private:
  std::vector<TokenId> DoEncode(absl::Span<const TextSegment>, bool,
                                const EncodeLimits&) const override {
    return {};
  }
  Strings pieces_;
  TextEnds ends_;
};

// The deltas of one token for each piece, the last one from Finish.
Strings Deltas(const Strings& pieces, const Strings& stops = {}, const TextEnds& ends = {}) {
  TextStream stream(std::make_shared<FakeTokenizer>(pieces, ends), stops);
  Strings deltas;
  for (TokenId id = 0; id < pieces.size(); ++id) deltas.push_back(stream.Add(id));
  deltas.push_back(stream.Finish());
  return deltas;
}

std::string Join(const Strings& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

TEST(TextStream, GivesACodePointOutOnlyWhenItIsWhole) {
  EXPECT_EQ(Deltas({"a\xf0", "\x9f\x98",
                    "\x80"
                    "b"}),
            (Strings{"a", "", "\U0001f600b", ""}));
}

TEST(TextStream, ReplacesWhatIsNoUtf8) {
  EXPECT_EQ(Deltas({"a\xff", "b\xe8\xa8", "c"}), (Strings{"a\uFFFD", "b", "\uFFFDc", ""}));
  EXPECT_EQ(Deltas({"\xe8\xa8"}), (Strings{"", "\uFFFD"}));
}

TEST(TextStream, LeavesSpecialTokensAndUnknownIdsWithoutText) {
  EXPECT_EQ(Deltas({"a\xe8", "<s>", "\xa8\x98"}), (Strings{"a", "", "\u8a18", ""}));
  TextStream stream(std::make_shared<FakeTokenizer>(Strings{"a"}), {});
  EXPECT_EQ(stream.Add(1), "");
  EXPECT_EQ(stream.Add(UINT32_MAX), "");
}

TEST(TextStream, StripsTheEndsOfATextAsTheTokenizerSays) {
  const TextEnds one{.at_start = 1};
  EXPECT_EQ(Join(Deltas({" a", " b"}, {}, one)), "a b");
  EXPECT_EQ(Join(Deltas({"<s>", "  a"}, {}, one)), " a");
  EXPECT_EQ(Join(Deltas({" ", " a"}, {}, one)), " a");
  EXPECT_EQ(Join(Deltas({"a", " b"}, {}, one)), "a b");
  EXPECT_EQ(Join(Deltas({" ", " ", " a"}, {}, {.at_start = 2})), " a");
  EXPECT_EQ(Join(Deltas({"##a", "##b"})), "a##b");
  const TextEnds end{.at_end = 2};
  EXPECT_EQ(Join(Deltas({"a  ", " b ", "  "}, {}, end)), "a   b ");
  EXPECT_EQ(Deltas({"a ", "b "}, {}, end), (Strings{"a", " b", ""}));
  const TextEnds mark{.character = "\u2581", .at_start = 1, .at_end = 1};
  EXPECT_EQ(Join(Deltas({"\xe2\x96", "\x81\u2581a", "\u2581"}, {}, mark)), "\u2581a");
}

// The text of an answer to a prompt.
std::string Answer(const Strings& prompt, const Strings& answer, const Strings& stops = {},
                   const TextEnds& ends = {}) {
  Strings pieces = prompt;
  pieces.insert(pieces.end(), answer.begin(), answer.end());
  const auto tokenizer = std::make_shared<FakeTokenizer>(pieces, ends);
  Ids ids(prompt.size());
  std::iota(ids.begin(), ids.end(), 0);
  TextStream stream(tokenizer, stops, ids);
  std::string text;
  for (TokenId id = ids.size(); id < pieces.size(); ++id) text += stream.Add(id);
  return text += stream.Finish();
}

TEST(TextStream, AnAnswerContinuesThePromptsText) {
  const TextEnds one{.at_start = 1};
  EXPECT_EQ(Answer({" is"}, {" Paris"}, {}, one), " Paris");
  EXPECT_EQ(Answer({"<s>", " is"}, {" Paris"}, {}, one), " Paris");
  EXPECT_EQ(Answer({"<s>"}, {" Paris"}, {}, one), "Paris");  // the first word of all
  EXPECT_EQ(Answer({" "}, {" Paris"}, {}, one), " Paris");
  EXPECT_EQ(Answer({}, {" Paris"}, {}, one), "Paris");
  EXPECT_EQ(Answer({"is"}, {"##Paris"}), "##Paris");
  EXPECT_EQ(Answer({"is\xe8\xa8"}, {"\x98"}), "\u8a18");
  EXPECT_EQ(Answer({"is "}, {"Paris "}, {}, {.at_end = 1}), " Paris");
  EXPECT_EQ(Answer(Strings(1000, " is"), {" Paris"}, {}, one), " Paris");
  EXPECT_EQ(Answer({"is\n"}, {"\nU"}, {"\n\n"}), "\nU");  // stop strings look at the answer only
}

TEST(TextStream, FindsTheTextOfSpecialTokensWithoutGivingItOut) {
  EXPECT_EQ(Answer({"q"}, {"a", "<|im_end|>", "b"}, {"<|im_end|>"}), "a");
  EXPECT_EQ(Answer({"q"}, {"a", "<|im_end|>", "b"}, {"x"}), "ab");
  EXPECT_EQ(Answer({"q"}, {"a", "<|im_end|>", "\nb"}, {"<|im_end|>\n"}), "a");
  EXPECT_EQ(Answer({"q"}, {"a", "<|im_end|>", "b"}, {"end|>"}), "a");
  EXPECT_EQ(Answer({"q"}, {"a", "<|im_end|>"}, {"<|im_end|>b"}), "a");
  EXPECT_EQ(Answer({"q"}, {"<|im_end|>", "<|x|>", "b"}, {"<|x|>"}), "");
  // What the caller sees holds no stop string either.
  EXPECT_EQ(Answer({"q"}, {"Us", "<|x|>", "er: hi"}, {"User:"}), "");
  EXPECT_EQ(Answer({"q"}, {"a", "<|x|>", "b"}, {"a<", "ab"}), "");
}

TEST(TextStream, CutsBeforeAStopStringAcrossTokens) {
  TextStream stream(std::make_shared<FakeTokenizer>(Strings{"He", "llo\nUs", "er", ": hi", "more"}),
                    {"\nUser:"});
  EXPECT_EQ(stream.Add(0), "He");
  EXPECT_EQ(stream.Add(1), "llo");
  EXPECT_EQ(stream.Add(2), "");
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.Add(3), "");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.matched_stop(), "\nUser:");
  EXPECT_EQ(stream.Add(4), "");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(TextStream, GivesOutWhatOnlyLookedLikeAStopString) {
  EXPECT_EQ(Deltas({"ab", "ac", "d"}, {"abab"}), (Strings{"", "abac", "d", ""}));
  EXPECT_EQ(Deltas({"aaab"}, {"aab"}), (Strings{"a", ""}));
  EXPECT_EQ(Deltas({"x\nUs"}, {"\nUser"}), (Strings{"x", "\nUs"}));
}

TEST(TextStream, TakesTheMatchThatBeginsFirst) {
  TextStream stream(std::make_shared<FakeTokenizer>(Strings{"xab", "c", "d"}), {"bc", "abcd"});
  EXPECT_EQ(stream.Add(0), "x");
  EXPECT_EQ(stream.Add(1), "");  // "bc" is there, but "abcd" may still begin before it
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.Add(2), "");
  EXPECT_EQ(stream.matched_stop(), "abcd");
}

TEST(TextStream, FindsAtTheEndWhatAnEarlierBeginningHeldBack) {
  TextStream stream(std::make_shared<FakeTokenizer>(Strings{"xabc"}), {"bc", "abcd"});
  EXPECT_EQ(stream.Add(0), "x");
  EXPECT_EQ(stream.Finish(), "a");
  EXPECT_EQ(stream.matched_stop(), "bc");
}

TEST(TextStream, TakesTheShortestOfStopStringsThatBeginTogether) {
  for (const Strings& stops : {Strings{"ab", "a"}, Strings{"a", "ab"}}) {
    TextStream stream(std::make_shared<FakeTokenizer>(Strings{"xab"}), stops);
    EXPECT_EQ(stream.Add(0), "x");
    EXPECT_EQ(stream.matched_stop(), "a");
  }
}

TEST(TextStream, MatchesAReplacementCharacterThatTheEndMade) {
  TextStream stream(std::make_shared<FakeTokenizer>(Strings{"a\xe8"}), {"a\uFFFD"});
  EXPECT_EQ(stream.Add(0), "");
  EXPECT_EQ(stream.Finish(), "");
  EXPECT_TRUE(stream.stopped());
}

TEST(TextStream, IgnoresEmptyStopStrings) { EXPECT_EQ(Deltas({"ab"}, {""}), (Strings{"ab", ""})); }

TEST(TextStream, DoesNotDependOnWhereTokensEnd) {
  std::mt19937 random(6);
  const auto any = [&](const std::string& letters, size_t longest) {
    std::string text;
    for (size_t i = random() % (longest + 1); i > 0; --i)
      text += letters[random() % letters.size()];
    return text;
  };
  size_t stopped = 0;
  for (int round = 0; round < 5000; ++round) {
    const std::string bytes = any(round % 2 == 0 ? "ab" : "a\xc3\xa9\xe8\xa8\x98\xff", 24);
    Strings stops;
    for (size_t i = 1 + random() % 3; i > 0; --i)
      stops.push_back(round % 2 == 0 ? any("ab", 5) : "a\u00e9");
    Strings pieces;
    for (size_t at = 0; at < bytes.size();) {
      pieces.push_back(bytes.substr(at, 1 + random() % 4));
      at += pieces.back().size();
    }
    const std::string whole = ReplaceInvalidUtf8(bytes);
    size_t cut = std::string::npos;
    for (const std::string& stop : stops) {
      if (!stop.empty()) cut = std::min(cut, whole.find(stop));
    }
    const Strings deltas = Deltas(pieces, stops);
    for (const std::string& delta : deltas) EXPECT_TRUE(IsValidUtf8(delta));
    EXPECT_EQ(Join(deltas), whole.substr(0, cut));
    stopped += cut != std::string::npos;
  }
  EXPECT_GT(stopped, 1000u);
}

}  // namespace
}  // namespace ebbinghaus::text
