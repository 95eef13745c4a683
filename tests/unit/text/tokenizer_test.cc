#include "server/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <thread>

#include "server/text/unicode.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;
using testing::HasSubstr;
using Ids = std::vector<TokenId>;
using Json = nlohmann::json;

Json Definition(const std::string& name) {
  std::ifstream file("tests/golden/tokenizer/fixtures/" + name + ".json", std::ios::binary);
  return Json::parse(std::string(std::istreambuf_iterator<char>(file), {}))["definition"];
}

std::shared_ptr<const Tokenizer> Make(const Json& definition) {
  const auto tokenizer = Tokenizer::FromJson(definition.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *tokenizer : nullptr;
}

TokenId IdOf(const Tokenizer& tokenizer, const std::string& piece) {
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    if (tokenizer.Piece(id) == piece) return id;
  }
  ADD_FAILURE() << "no token " << piece;
  return 0;
}

// --- Special tokens
// -------------------------------------------------------------------------------

class SpecialTokensTest : public testing::Test {
 protected:
  std::shared_ptr<const Tokenizer> tokenizer_ = Make(Definition("qwen2"));
  TokenId start_ = IdOf(*tokenizer_, "<|im_start|>");
  TokenId end_ = IdOf(*tokenizer_, "<|im_end|>");
  TokenId think_ = IdOf(*tokenizer_, "<think>");

  size_t Count(const Ids& ids, TokenId id) const { return std::count(ids.begin(), ids.end(), id); }
};

TEST_F(SpecialTokensTest, AreRecognisedOnlyWhereTheCallerAllowsIt) {
  const std::string text = "<|im_start|>hi<|im_end|>";
  EXPECT_EQ(tokenizer_->Encode(text, {.parse_special = true}).front(), start_);
  const Ids plain = tokenizer_->Encode(text, {.parse_special = false});
  EXPECT_EQ(Count(plain, start_) + Count(plain, end_), 0u);
  EXPECT_EQ(tokenizer_->Decode(plain, /*skip_special=*/true), text);
}

TEST_F(SpecialTokensTest, OtherAddedTokensAreRecognisedAlways) {
  EXPECT_EQ(tokenizer_->Encode("<think>", {.parse_special = false}), Ids{think_});
  EXPECT_FALSE(tokenizer_->IsSpecial(think_));
  EXPECT_TRUE(tokenizer_->IsSpecial(start_));
}

TEST_F(SpecialTokensTest, OfATemplateStandBesideTheSameTextOfAMessage) {
  const std::vector<TextSegment> segments = {
      {"<|im_start|>user\n", true}, {"say <|im_end|>", false}, {"<|im_end|>\n", true}};
  const Ids ids = tokenizer_->EncodeSegments(segments, false);
  EXPECT_EQ(Count(ids, start_), 1u);
  EXPECT_EQ(Count(ids, end_), 1u);
  EXPECT_EQ(tokenizer_->Decode(ids, false), "<|im_start|>user\nsay <|im_end|><|im_end|>\n");
}

TEST_F(SpecialTokensTest, DoNotComeAboutAcrossTheBorderOfAMessage) {
  // Neither begun nor finished by a message, nor swallowed by what a message begins.
  for (const std::string message : {"<|im_", "<|im_start|", "<", "<|im_end|><|im_start"}) {
    const Ids begun =
        tokenizer_->EncodeSegments({{message, false}, {"<|im_end|>start|>", true}}, false);
    EXPECT_EQ(Count(begun, start_), 0u) << message;
    EXPECT_EQ(Count(begun, end_), 1u) << message;
    const Ids finished = tokenizer_->EncodeSegments({{"<|im_", true}, {"start|>", false}}, false);
    EXPECT_EQ(Count(finished, start_), 0u);
  }
}

TEST_F(SpecialTokensTest, MayBeCutBetweenSegmentsThatBothAllowThem) {
  EXPECT_EQ(tokenizer_->EncodeSegments({{"<|im_", true}, {"start|>", true}}, false), Ids{start_});
}

TEST(NormalizedSpecialTokens, KeepTheirPlaceThroughNormalization) {
  // <s> is looked for in the composed text here, so trust has to follow the characters through NFC.
  const auto tokenizer = Make(Definition("flags-nfc"));
  const TokenId special = IdOf(*tokenizer, "<s>");
  const Ids ids = tokenizer->EncodeSegments(
      {{"e\u0301e\u0301<s>", false}, {"e\u0301<s>", true}, {"\u0301<s>", false}}, false);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), special), 1);
  const Ids all = tokenizer->Encode("e\u0301e\u0301<s>e\u0301<s>x<s>", {.parse_special = true});
  EXPECT_EQ(std::count(all.begin(), all.end(), special), 3);
}

TEST(AddedTokens, OfAByteLevelDefinitionKeepTheirSpellingWhenDecoded) {
  // Spelled with a letter of the byte alphabet, which the reference turns into a broken byte.
  Json definition = Definition("qwen2");
  definition["added_tokens"].push_back({{"id", definition["model"]["vocab"].size() + 3},
                                        {"content", "\u00fcber"},
                                        {"special", false},
                                        {"normalized", false}});
  const auto tokenizer = Make(definition);
  const Ids ids = tokenizer->Encode("quer \u00fcber", {});
  EXPECT_EQ(tokenizer->Piece(ids.back()), "\u00fcber");
  EXPECT_EQ(tokenizer->Decode(ids, true), "quer \u00fcber");
}

// --- Whole texts
// ----------------------------------------------------------------------------------

TEST(ByteLevelTokenizer, GivesBackEveryTextItEncoded) {
  std::mt19937 random(9);
  for (const std::string name : {"llama3", "smollm"}) {
    const auto tokenizer = Make(Definition(name));
    for (int round = 0; round < 500; ++round) {
      std::string text;
      for (int i = 0; i < 40; ++i) {
        const char32_t limits[] = {0x80, 0x800, 0xD800, 0x110000};
        char32_t c = random() % limits[random() % 4];
        if (c >= 0xD800 && c < 0xE000) c = U' ';
        AppendUtf8(c, text);
      }
      const Ids ids = tokenizer->Encode(text, {.add_special_tokens = false});
      EXPECT_EQ(tokenizer->Decode(ids, true), text);
      std::string pieces;
      for (const TokenId id : ids) pieces += tokenizer->Piece(id);
      EXPECT_EQ(pieces, text);
    }
  }
}

TEST(Tokenizer, ReadsBrokenUtf8AsReplacementCharacters) {
  std::mt19937 random(2);
  for (const std::string name : {"qwen2", "llama2", "metaspace-first", "gpt2-prefix"}) {
    const auto tokenizer = Make(Definition(name));
    for (int round = 0; round < 300; ++round) {
      std::string bytes;
      for (int i = 0; i < 30; ++i) bytes.push_back(static_cast<char>(random()));
      EXPECT_EQ(tokenizer->Encode(bytes, {}), tokenizer->Encode(ReplaceInvalidUtf8(bytes), {}));
      EXPECT_TRUE(IsValidUtf8(tokenizer->Decode(tokenizer->Encode(bytes, {}), false)));
    }
  }
}

TEST(Tokenizer, EncodesAHugeTextInOnePiece) {
  // What is quadratic anywhere on the way does not end within the test's time.
  for (const std::string name :
       {"qwen2", "llama2", "smollm", "gemma-like", "flags-nfc", "llama2-flags"}) {
    const auto tokenizer = Make(Definition(name));
    for (const std::string unit : {"a", " ", "\n", "\u0301", "<", "<mask> ", "1"}) {
      std::string text = "x";
      const size_t size = unit == "a" ? 1 << 20 : 1 << 17;
      while (text.size() < size) text += unit;
      const Ids ids = tokenizer->Encode(text, {.add_special_tokens = false});
      EXPECT_FALSE(ids.empty());
      if (unit == "<mask> ") continue;  // its spaces are swallowed
      EXPECT_EQ(tokenizer->Decode(ids, true).size(), text.size()) << name << unit;
    }
  }
}

TEST(Tokenizer, EncodesNothingAsNothingButTheBos) {
  EXPECT_EQ(Make(Definition("qwen2"))->Encode("", {}), Ids{});
  const auto llama = Make(Definition("llama3"));
  ASSERT_TRUE(llama->adds_bos());
  EXPECT_EQ(llama->Encode("", {}), Ids{*llama->bos_token_id()});
  EXPECT_EQ(llama->EncodeSegments({}, true), Ids{*llama->bos_token_id()});
  EXPECT_EQ(llama->Encode("", {.add_special_tokens = false}), Ids{});
}

TEST(Tokenizer, IsUsableFromSeveralThreads) {
  const auto tokenizer = Make(Definition("qwen2"));
  const std::string text = "The curve falls fast at first, then slowly. e\u0301 \u8a18\u61b6 123";
  const Ids wanted = tokenizer->Encode(text, {});
  std::vector<std::thread> threads;
  std::vector<int> good(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) good[t] += tokenizer->Encode(text, {}) == wanted;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, std::vector<int>(4, 200));
}

TEST(Decode, IgnoresIdsBeyondTheVocabulary) {
  const auto tokenizer = Make(Definition("qwen2"));
  EXPECT_EQ(tokenizer->Decode({tokenizer->size(), UINT32_MAX}, false), "");
}

// --- Definitions that are refused
// -----------------------------------------------------------------

std::string Refusal(const std::string& text) {
  const auto tokenizer = Tokenizer::FromJson(text);
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << text.substr(0, 200);
  return std::string(tokenizer.status().message());
}

// The message for a definition of which one thing is changed.
std::string RefusalOf(const std::string& name, const std::function<void(Json&)>& change) {
  Json definition = Definition(name);
  change(definition);
  return Refusal(definition.dump());
}

TEST(FromJson, NamesWhatItDoesNotSupport) {
  EXPECT_THAT(RefusalOf("qwen2", [](Json& d) { d["model"]["type"] = "Bigram"; }),
              HasSubstr("Bigram"));
  EXPECT_THAT(
      RefusalOf("qwen2",
                [](Json& d) { d["pre_tokenizer"]["pretokenizers"][0]["type"] = "Scissors"; }),
      HasSubstr("Scissors"));
  EXPECT_THAT(RefusalOf("qwen2", [](Json& d) { d["normalizer"]["type"] = "Uppercase"; }),
              HasSubstr("Uppercase"));
  EXPECT_THAT(RefusalOf("llama2", [](Json& d) { d["decoder"]["decoders"][1]["type"] = "CTC"; }),
              HasSubstr("CTC"));
  EXPECT_THAT(
      RefusalOf("llama2", [](Json& d) { d["post_processor"]["type"] = "PairProcessing"; }),
      HasSubstr("PairProcessing"));
  EXPECT_THAT(RefusalOf("qwen2",
                        [](Json& d) {
                          d["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[a&&b]";
                        }),
              HasSubstr("regular expression"));
  EXPECT_THAT(RefusalOf("llama2",
                        [](Json& d) {
                          auto& steps = d["decoder"]["decoders"];
                          std::swap(steps[0], steps[2]);
                        }),
              HasSubstr("behind Fuse"));
}

TEST(FromJson, RefusesIdsThatTakeMemoryOutOfProportion) {
  for (const Json& id : {Json(100000000), Json(-1), Json("1"), Json(1.5)}) {
    EXPECT_THAT(RefusalOf("qwen2", [&](Json& d) { d["model"]["vocab"]["new"] = id; }),
                HasSubstr("new"));
  }
  EXPECT_THAT(RefusalOf("qwen2", [](Json& d) { d["added_tokens"][0]["id"] = 4294967295u; }),
              HasSubstr("id"));
}

TEST(FromJson, LoadsAVocabularyWithHolesAndDoubledIds) {
  Json definition = Definition("unknown-dropped");
  definition["model"] = {{"type", "BPE"},
                         {"vocab", {{"a", 1}, {"b", 1}, {"c", 7}}},
                         {"merges", Json::array()}};
  definition["normalizer"] = nullptr;
  definition["added_tokens"] = {{{"id", 9}, {"content", "<x>"}, {"special", true}}};
  const auto tokenizer = Make(definition);
  // An added token is numbered on from the size of the vocabulary, whatever the file says.
  EXPECT_EQ(tokenizer->Encode("abc<x>", {.parse_special = true}), (Ids{1, 1, 7, 3}));
  EXPECT_EQ(tokenizer->size(), 8u);
  EXPECT_EQ(tokenizer->Piece(5), "");
  EXPECT_EQ(tokenizer->Decode({5, 7, 3}, false), "c<x>");
  EXPECT_EQ(tokenizer->Decode({1}, false), "a");
}

TEST(FromJson, ForgetsTheTokensThatTheModelHasNoRowFor) {
  const Json definition = Definition("qwen2");
  const auto all = Make(definition);
  const uint32_t rows = all->size() - 20;
  const auto limited = Tokenizer::FromJson(definition.dump(), {.max_tokens = rows});
  ASSERT_TRUE(limited.ok()) << limited.status();
  EXPECT_EQ((*limited)->size(), rows);
  const std::string text = "The curve falls fast at first <|im_start|> then slowly";
  for (const TokenId id : (*limited)->Encode(text, {.parse_special = true})) EXPECT_LT(id, rows);
  EXPECT_EQ((*limited)->Decode((*limited)->Encode(text, {.parse_special = true}), true), text);
}

TEST(FromJson, DoesAsTheFileBesideItSays) {
  const Json definition = Definition("llama2");
  const auto make = [&](const TokenizerSettings& settings) {
    const auto tokenizer = Tokenizer::FromJson(definition.dump(), settings);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return *tokenizer;
  };
  const Ids plain = make({})->Encode("hi", {.add_special_tokens = false});
  const auto with = [&](const Ids& before, const Ids& after) {
    Ids ids = before;
    ids.insert(ids.end(), plain.begin(), plain.end());
    ids.insert(ids.end(), after.begin(), after.end());
    return ids;
  };
  EXPECT_EQ(make({})->Encode("hi", {}), with({1}, {}));
  EXPECT_EQ(make({.add_bos = false, .bos = "<s>"})->Encode("hi", {}), with({}, {}));
  EXPECT_FALSE(make({.add_bos = false, .bos = "<s>"})->adds_bos());
  EXPECT_EQ(make({.add_bos = true, .bos = "<s>"})->Encode("hi", {}), with({1}, {}));
  EXPECT_EQ(make({.add_eos = true, .eos = "</s>"})->Encode("hi", {}), with({1}, {2}));
  const auto missing = Tokenizer::FromJson(definition.dump(), {.add_eos = true, .eos = "<none>"});
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("eos_token"));
  // A token of the vocabulary that the file beside it calls special.
  const auto marked = make({.control_texts = {"<think>"}});
  const TokenId think = IdOf(*marked, "<think>");
  EXPECT_TRUE(marked->IsSpecial(think));
  const Ids ids = marked->Encode("<think>", {.parse_special = false});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), think), 0);
}

TEST(FromJson, RefusesMergesThatLeadNowhere) {
  EXPECT_THAT(RefusalOf("qwen2",
                        [](Json& d) {
                          d["model"]["merges"].push_back({"a", "nowhere"});
                        }),
              HasSubstr("nowhere"));
  EXPECT_THAT(RefusalOf("qwen2", [](Json& d) { d["model"]["merges"].push_back("a b c"); }),
              HasSubstr("a b c"));
  EXPECT_THAT(RefusalOf("qwen2", [](Json& d) { d["model"]["merges"].push_back("ab"); }),
              HasSubstr("ab"));
  EXPECT_THAT(RefusalOf("qwen2",
                        [](Json& d) {
                          d["model"]["merges"].push_back({"a", "b", "c"});
                        }),
              HasSubstr("pair"));
  EXPECT_THAT(RefusalOf("qwen2", [](Json& d) { d["model"]["merges"].push_back(7); }),
              HasSubstr("merges"));
}

TEST(FromJson, RefusesTextsThatBlowUp) {
  const std::string huge(5000, 'x');
  EXPECT_THAT(RefusalOf("qwen2", [&](Json& d) { d["added_tokens"][0]["content"] = huge; }),
              HasSubstr("4,096"));
  EXPECT_THAT(
      RefusalOf("llama2", [&](Json& d) { d["normalizer"]["normalizers"][0]["prepend"] = huge; }),
      HasSubstr("prepend"));
  // Short by itself, long once it is normalized.
  EXPECT_THAT(RefusalOf("llama2",
                        [&](Json& d) {
                          d["normalizer"]["normalizers"][1]["content"] = huge.substr(0, 256);
                          d["added_tokens"][3]["content"] = std::string(100, ' ');
                          d["added_tokens"][3]["normalized"] = true;
                        }),
              HasSubstr("4,096"));
}

TEST(FromJson, RefusesWhatIsNoTokenizer) {
  Refusal("");
  Refusal("nonsense");
  Refusal("[]");
  Refusal("{}");
  Refusal(R"({"model": 3})");
  Refusal(R"({"model": {"type": "BPE", "vocab": {}, "merges": []}, "decoder": {"type": "Fuse"}})");
  Refusal("{\"model\": \"\xff\"}");
  EXPECT_THAT(Refusal(std::string(1000000, '[')), HasSubstr("deep"));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"({"type":"Sequence","pretokenizers":[)";
  EXPECT_THAT(Refusal(R"({"pre_tokenizer":)" + deep), HasSubstr("deep"));
}

// Every value of a JSON document, each with its path.
void Walk(const Json& json, const Json::json_pointer& at, std::vector<Json::json_pointer>& paths) {
  paths.push_back(at);
  if (!json.is_structured()) return;
  if (at.to_string() == "/model/vocab" || at.to_string() == "/model/merges") return;
  for (const auto& [key, value] : json.items()) {
    Walk(value, json.is_array() ? at / std::stoul(key) : at / key, paths);
  }
}

TEST(FromJson, NeverCrashesWhereAValueHasTheWrongTypeOrIsMissing) {
  for (const std::string name :
       {"flags-nfc", "llama2-flags", "metaspace-first", "llama3", "falcon-like"}) {
    const Json definition = Definition(name);
    std::vector<Json::json_pointer> paths;
    Walk(definition, Json::json_pointer(), paths);
    for (const auto& path : paths) {
      for (const Json& wrong :
           {Json(), Json(-1), Json(1e300), Json("\u2581"), Json(""), Json(true), Json::array(),
            Json::object(), Json::array({Json::object()}), Json(18446744073709551615u)}) {
        Json mutated = definition;
        mutated[path] = wrong;
        const auto tokenizer = Tokenizer::FromJson(mutated.dump());
        if (tokenizer.ok()) {
          (*tokenizer)
              ->Decode((*tokenizer)->Encode("<s>a  b <mask>1</s>\u8a18", {.parse_special = true}),
                       false);
        } else {
          EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << path;
        }
      }
    }
  }
}

TEST(FromJson, NeverCrashesOnTruncatedOrFlippedText) {
  const std::string text = Definition("metaspace-first").dump();
  std::mt19937 random(4);
  for (int round = 0; round < 150; ++round) {
    std::string mutated = text.substr(0, round % 2 == 0 ? random() % text.size() : text.size());
    for (int flips = 0; flips < round % 4 && !mutated.empty(); ++flips) {
      mutated[random() % mutated.size()] = static_cast<char>(random());
    }
    const auto tokenizer = Tokenizer::FromJson(mutated);
    if (tokenizer.ok()) (*tokenizer)->Encode("any text 123", {});
  }
}

// --- GGUF
// -----------------------------------------------------------------------------------------

GgufVocabulary SmallVocabulary(const std::string& model) {
  GgufVocabulary v;
  v.model = model;
  v.pre = "gpt-2";
  v.tokens = {"<unk>", "<s>", "</s>", "a", "b", "ab", "\u2581", "<tool>", "<0x0A>", "[PAD]"};
  v.token_types = {2, 3, 3, 1, 1, 1, 1, 4, 6, 5};
  if (model == "gpt2") {
    v.merges = {"a b"};
  } else {
    v.scores = {0, 0, 0, -2, -3, -1, -4, 0, 0, 0};
  }
  v.bos_token_id = 1;
  return v;
}

std::string RefusalOf(const std::string& model,
                      const std::function<void(GgufVocabulary&)>& change) {
  GgufVocabulary v = SmallVocabulary(model);
  change(v);
  const auto tokenizer = Tokenizer::FromGguf(v);
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tokenizer.status().message());
}

TEST(FromGguf, NamesAnUnknownSplitAndListsTheKnownOnes) {
  const std::string message = RefusalOf("gpt2", [](GgufVocabulary& v) { v.pre = "mystery"; });
  for (const char* name : {"mystery", "tokenizer.ggml.pre", "default", "gpt-2", "smollm",
                           "llama-bpe", "qwen2", "qwen35", "tekken"}) {
    EXPECT_THAT(message, HasSubstr(name));
  }
}

TEST(FromGguf, TakesTheDefaultSplitWhereAFileNamesNone) {
  GgufVocabulary v = SmallVocabulary("gpt2");
  v.pre = "";
  EXPECT_TRUE(Tokenizer::FromGguf(v).ok());
}

TEST(FromGguf, KnowsEveryNamedSplit) {
  for (const std::string name :
       {"deepseek-llm", "deepseek-coder", "deepseek-v3", "deepseek-r1-qwen", "falcon", "falcon3",
        "pixtral", "tekken", "command-r", "refact", "stablelm2", "olmo", "dbrx", "glm4",
        "chatglm-bpe", "exaone", "gpt-4o", "llama4", "mpt", "phi-2", "seed-coder", "hunyuan",
        "superbpe", "viking", "megrez", "gemma4", "lfm2", "default", "gpt-2", "smollm", "starcoder",
        "llama-bpe", "qwen2", "qwen35", "tiny_aya", "youtu", "chameleon", "jais-2", "bailingmoe",
        "exaone-moe", "spark2_5", "minicpm5", "laguna", "bloom"}) {
    GgufVocabulary v = SmallVocabulary("gpt2");
    v.pre = name;
    v.tokens = {"<unk>", "<s>", "</s>"};
    v.token_types = {2, 3, 3};
    v.merges = {};
    const std::string text = "It's 12345 Bl\u00e4tter,\n\n  \u8a18\u61b6!  end ";
    for (const char byte : text) {  // every byte is a token
      std::string token;
      AppendUtf8(static_cast<unsigned char>(byte), token);
      if (static_cast<unsigned char>(byte) <= 0x20) token = byte == ' ' ? "\u0120" : "\u010a";
      v.tokens.push_back(token);
      v.token_types.push_back(1);
    }
    const auto tokenizer = Tokenizer::FromGguf(v);
    ASSERT_TRUE(tokenizer.ok()) << name << tokenizer.status();
    EXPECT_FALSE((*tokenizer)->Encode(text, {}).empty()) << name;
  }
}

TEST(FromGguf, MergesLeadThroughTextsThatAreNoTokens) {
  GgufVocabulary v = SmallVocabulary("gpt2");
  v.tokens.insert(v.tokens.end(), {"c", "abc"});
  v.token_types.insert(v.token_types.end(), {1, 1});
  v.merges = {"b c", "a bc", "b b"};
  const auto tokenizer = Tokenizer::FromGguf(v);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->Encode("abc", {}), Ids{11});
  EXPECT_EQ((*tokenizer)->Encode("bc", {}), (Ids{4, 10}));  // cut into its bytes
  EXPECT_EQ((*tokenizer)->Encode("bb", {}), (Ids{4, 4}));
}

TEST(FromGguf, TheLaterOfTwoEqualTokensCounts) {
  for (const std::string model : {"gpt2", "llama"}) {
    GgufVocabulary v = SmallVocabulary(model);
    v.tokens[9] = "ab";
    v.token_types[9] = 1;
    if (model == "llama") v.scores[9] = -1;
    const auto tokenizer = Tokenizer::FromGguf(v);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->Encode("ab", {.add_special_tokens = false}).back(), 9u) << model;
    EXPECT_EQ((*tokenizer)->Piece(5), "ab");
  }
}

TEST(FromGguf, TextsThatEndATurnAreControlTokensWhateverTheFileSays) {
  for (const int32_t type : {1, 4}) {
    GgufVocabulary v = SmallVocabulary("gpt2");
    v.tokens.insert(v.tokens.end(), {"<|im_start|>", "<|im_end|>", "<end_of_turn>", "named"});
    v.token_types.insert(v.token_types.end(), {1, type, type, 1});
    v.control_token_ids = {13};
    const auto tokenizer = Tokenizer::FromGguf(v);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->Encode("<|im_start|><|im_end|><end_of_turn>named",
                                   {.parse_special = true}),
              (Ids{10, 11, 12, 13}));
    for (TokenId id = 10; id < 14; ++id) EXPECT_TRUE((*tokenizer)->IsSpecial(id));
    for (const TokenId id : (*tokenizer)->Encode("<|im_end|>", {})) EXPECT_LT(id, 10u);
  }
}

TEST(FromGguf, RefusesMetadataThatDoesNotFitTogether) {
  EXPECT_THAT(RefusalOf("rwkv", [](GgufVocabulary&) {}), HasSubstr("rwkv"));
  for (const std::string model : {"gpt2", "llama"}) {
    EXPECT_THAT(RefusalOf(model, [](GgufVocabulary& v) { v.tokens.clear(); }), HasSubstr("tokens"));
    EXPECT_THAT(RefusalOf(model, [](GgufVocabulary& v) { v.token_types.pop_back(); }),
                HasSubstr("token_type"));
    EXPECT_THAT(RefusalOf(model, [](GgufVocabulary& v) { v.scores = {1}; }), HasSubstr("scores"));
    EXPECT_THAT(RefusalOf(model, [](GgufVocabulary& v) { v.bos_token_id = 99; }),
                HasSubstr("bos_token_id"));
    EXPECT_THAT(RefusalOf(model, [](GgufVocabulary& v) { v.unknown_token_id = 99; }),
                HasSubstr("unknown_token_id"));
    EXPECT_THAT(RefusalOf(model, [](GgufVocabulary& v) { v.tokens[4] = "\xff"; }),
                HasSubstr("UTF-8"));
    EXPECT_THAT(RefusalOf(model, [](GgufVocabulary& v) { v.tokens[4] = std::string(100000, 'x'); }),
                HasSubstr("longer"));
  }
  for (const std::string merge : {"", " ", "ab", "a"}) {
    EXPECT_THAT(RefusalOf("gpt2", [&](GgufVocabulary& v) { v.merges.push_back(merge); }),
                HasSubstr("merges"));
  }
  EXPECT_THAT(RefusalOf("gpt2",
                        [](GgufVocabulary& v) {
                          v.bos_token_id.reset();
                          v.add_bos_token = true;
                        }),
              HasSubstr("bos_token_id"));
  EXPECT_THAT(RefusalOf("llama", [](GgufVocabulary& v) { v.scores.clear(); }), HasSubstr("scores"));
  EXPECT_THAT(RefusalOf("llama", [](GgufVocabulary& v) { v.scores[3] = NAN; }),
              HasSubstr("scores"));
}

TEST(FromGguf, TreatsTokensByTheirType) {
  const auto tokenizer = Tokenizer::FromGguf(SmallVocabulary("llama"));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto encode = [&](const std::string& text, bool parse) {
    return (*tokenizer)->Encode(text, {.add_special_tokens = true, .parse_special = parse});
  };
  EXPECT_EQ(encode("ab", false), (Ids{1, 6, 5}));
  EXPECT_EQ(encode("a\nb", false), (Ids{1, 6, 3, 8, 4}));         // byte fallback
  EXPECT_EQ(encode("a<tool>b", false), (Ids{1, 6, 3, 7, 6, 4}));  // user defined: always
  EXPECT_EQ(encode("a</s>", true), (Ids{1, 6, 3, 2}));            // control: where allowed
  EXPECT_EQ(encode("a</s>", false), (Ids{1, 6, 3, 0}));           // unknown characters, fused
  EXPECT_EQ(encode("[PAD]", true), (Ids{1, 6, 0}));               // unused: never
  EXPECT_TRUE((*tokenizer)->IsSpecial(2));
  EXPECT_FALSE((*tokenizer)->IsSpecial(7));
  EXPECT_EQ((*tokenizer)->Piece(8), "\n");
  EXPECT_EQ((*tokenizer)->Decode(Ids{1, 6, 3, 8, 6, 5}, true), "a\n ab");
}

TEST(FromGguf, AddsTheBosAsTheFileOrTheModelSays) {
  const auto adds = [](const std::string& model, const std::string& pre, std::optional<bool> add) {
    GgufVocabulary v = SmallVocabulary(model);
    v.pre = pre;
    v.add_bos_token = add;
    const auto tokenizer = Tokenizer::FromGguf(v);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->adds_bos(), (*tokenizer)->Encode("", {}) == Ids{1});
    EXPECT_EQ((*tokenizer)->bos_token_id(), 1u);
    return (*tokenizer)->adds_bos();
  };
  EXPECT_TRUE(adds("llama", "", std::nullopt));
  EXPECT_FALSE(adds("llama", "", false));
  EXPECT_FALSE(adds("gpt2", "qwen2", std::nullopt));
  EXPECT_TRUE(adds("gpt2", "qwen2", true));
  EXPECT_TRUE(adds("gpt2", "llama-bpe", std::nullopt));
  EXPECT_FALSE(adds("gpt2", "llama-bpe", false));
}

}  // namespace
}  // namespace ebbinghaus::text
