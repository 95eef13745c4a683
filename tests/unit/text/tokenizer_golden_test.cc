// The tokenizer against what the reference library made of the same definitions
// (tests/golden/tokenizer/generate.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "server/text/text_stream.h"
#include "server/text/tokenizer.h"

namespace ebbinghaus::text {
namespace {

using base::TokenId;
using Json = nlohmann::json;

const std::filesystem::path kFixtures = "tests/golden/tokenizer/fixtures";

Json ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return Json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
}

std::vector<std::string> FixtureNames() {
  std::vector<std::string> names;
  if (!std::filesystem::exists(kFixtures)) return names;
  for (const auto& entry : std::filesystem::directory_iterator(kFixtures)) {
    if (entry.path().stem() != "lines") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

GgufVocabulary ReadVocabulary(const Json& json) {
  GgufVocabulary v;
  v.model = json.at("model");
  v.pre = json.at("pre");
  v.tokens = json.at("tokens").get<std::vector<std::string>>();
  v.token_types = json.at("token_types").get<std::vector<int32_t>>();
  v.scores = json.value("scores", std::vector<float>());
  v.merges = json.value("merges", std::vector<std::string>());
  if (json.contains("bos_token_id")) v.bos_token_id = json["bos_token_id"].get<TokenId>();
  if (json.contains("unknown_token_id"))
    v.unknown_token_id = json["unknown_token_id"].get<TokenId>();
  if (json.contains("add_bos_token")) v.add_bos_token = json["add_bos_token"].get<bool>();
  if (json.contains("add_space_prefix")) v.add_space_prefix = json["add_space_prefix"].get<bool>();
  return v;
}

class TokenizerGoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    fixture_ = ReadJson(kFixtures / (GetParam() + ".json"));
    lines_ = ReadJson(kFixtures / "lines.json").get<std::vector<std::string>>();
    const auto tokenizer = fixture_["kind"] == "gguf"
                               ? Tokenizer::FromGguf(ReadVocabulary(fixture_["definition"]))
                               : Tokenizer::FromJson(fixture_["definition"].dump());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *tokenizer;
    ASSERT_GT(fixture_["cases"].size(), 20u);
  }

  bool HoldsAddedToken(const std::string& line) const {
    for (const std::string token : fixture_["added"]) {
      if (line.find(token) != std::string::npos) return true;
    }
    return false;
  }

  Json fixture_;
  std::vector<std::string> lines_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_P(TokenizerGoldenTest, GivesTheIdsOfTheReference) {
  for (const Json& golden : fixture_["cases"]) {
    const std::string& line = lines_[golden[0]];
    const EncodeOptions options{.add_special_tokens = golden[2], .parse_special = golden[1]};
    EXPECT_EQ(tokenizer_->Encode(line, options), golden[3].get<std::vector<TokenId>>())
        << Json(line) << " parse_special " << golden[1];
  }
}

TEST_P(TokenizerGoldenTest, DecodesAsTheReferenceWholeAndTokenByToken) {
  for (const Json& golden : fixture_["cases"]) {
    const std::string& line = lines_[golden[0]];
    const auto ids = golden[3].get<std::vector<TokenId>>();
    const auto wanted = [&](const Json& text) {
      return text.is_string() ? text.get<std::string>() : line;
    };
    EXPECT_EQ(tokenizer_->Decode(ids, /*skip_special=*/false), wanted(golden[4]));
    EXPECT_EQ(tokenizer_->Decode(ids, /*skip_special=*/true), wanted(golden[5]));
    TextStream stream(tokenizer_, {"not in any of the lines"});
    std::string streamed;
    for (const TokenId id : ids) streamed += stream.Add(id);
    EXPECT_EQ(streamed + stream.Finish(), wanted(golden[5]));
  }
}

TEST_P(TokenizerGoldenTest, SegmentsOfPlainTextAreEncodedAsOneText) {
  std::mt19937 random(5);
  for (const Json& golden : fixture_["cases"]) {
    const std::string& line = lines_[golden[0]];
    if (HoldsAddedToken(line)) continue;
    std::vector<TextSegment> segments;
    std::string_view rest = line;
    while (!rest.empty()) {
      size_t size = 1 + random() % rest.size();
      while (size < rest.size() && (static_cast<uint8_t>(rest[size]) & 0xC0) == 0x80) ++size;
      segments.push_back({rest.substr(0, size), random() % 2 == 0});
      rest.remove_prefix(size);
    }
    EXPECT_EQ(tokenizer_->EncodeSegments(segments, golden[2]),
              golden[3].get<std::vector<TokenId>>())
        << Json(line);
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, TokenizerGoldenTest, testing::ValuesIn(FixtureNames()),
                         [](const auto& fixture) {
                           std::string name = fixture.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(TokenizerGoldenFixtures, AreThere) { EXPECT_GE(FixtureNames().size(), 73u); }

}  // namespace
}  // namespace ebbinghaus::text
