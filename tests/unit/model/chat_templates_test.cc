// Where a model's chat templates come from, and that none of them keeps the model from loading.
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/model/checkpoint.h"
#include "server/model/text_loader.h"

namespace ebbinghaus::model {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// A copy of a tiny model's folder without any chat template.
class ChatTemplatesTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::copy("tests/golden/models/llama", folder_, std::filesystem::copy_options::recursive);
    std::filesystem::remove(folder_ / "chat_template.jinja");
    Configure("chat_template", nullptr);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void Write(const std::string& file, const std::string& text) {
    std::filesystem::create_directories((folder_ / file).parent_path());
    std::ofstream(folder_ / file) << text;
  }
  void Configure(const std::string& key, const nlohmann::json& value) {
    const auto path = folder_ / "tokenizer_config.json";
    std::ifstream in(path);
    nlohmann::json json = nlohmann::json::parse(in);
    json[key] = value;
    std::ofstream(path) << json.dump();
  }
  text::TextModel Load() {
    auto checkpoint = OpenCheckpoint(folder_.string());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto model = LoadTextModel(**checkpoint);
    EXPECT_TRUE(model.ok()) << model.status();
    return *std::move(model);
  }
  std::string Rendered(const text::Chat& chat) {
    const text::TextModel model = Load();
    if (!model.chat_template) return "none: " + model.chat_template_error;
    const auto segments = model.chat_template->RenderSegments(chat, true, 0);
    if (!segments.ok()) return std::string(segments.status().message());
    std::string text;
    for (const auto& segment : *segments) text += segment.text;
    return text;
  }

  std::filesystem::path folder_;
  text::Chat hello_{.messages = {{"user", "hi"}}};
};

TEST_F(ChatTemplatesTest, ATemplateThatCannotBeUsedLeavesTextAndIdsAsTheyAre) {
  for (const nlohmann::json& broken :
       {nlohmann::json("a\n{% if %}"), nlohmann::json("\n{{ x | nofilter }}"), nlohmann::json(7), nlohmann::json({{{"name", 1}}})}) {
    Configure("chat_template", broken);
    const text::TextModel model = Load();
    EXPECT_FALSE(model.chat_template.has_value()) << broken;
    EXPECT_FALSE(model.EncodeText("hi", false).empty());
    const auto refused = model.EncodeChat(hello_, false).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << broken;
    EXPECT_THAT(std::string(refused.message()), HasSubstr(broken.is_string() ? "line 2" : "chat_template"));
  }
}

TEST_F(ChatTemplatesTest, WhatOneBranchLacksIsMetInThatBranch) {
  Configure("chat_template", "{% if tools %}{% include 'x' %}{% endif %}plain");
  EXPECT_EQ(Rendered(hello_), "plain");
  hello_.tools = {jinja::Value::Of(jinja::Dict())};
  EXPECT_THAT(Rendered(hello_), HasSubstr("line 1: the tag {% include %} is not supported"));
}

TEST_F(ChatTemplatesTest, AreFoundWhereverPeoplePutThem) {
  EXPECT_EQ(Rendered(hello_), "none: ");
  Configure("chat_template", nlohmann::json::array({{{"name", "default"}, {"template", "list"}}, {{"name", "tool_use"}, {"template", "list tools"}}}));
  EXPECT_EQ(Rendered(hello_), "list");
  text::Chat with_tools = hello_;
  with_tools.tools = {jinja::Value::Of(jinja::Dict())};
  EXPECT_EQ(Rendered(with_tools), "list tools");
  Write("chat_template.json", R"({"chat_template": "json"})");
  EXPECT_EQ(Rendered(hello_), "json");
  Write("chat_template.jinja", "file\r\n{{ messages[0].content }}\n");
  EXPECT_EQ(Rendered(hello_), "file\nhi");
  Write("additional_chat_templates/tool_use.jinja", "file tools");
  EXPECT_EQ(Rendered(with_tools), "file tools");
}

TEST_F(ChatTemplatesTest, ReadEverySpecialTokenByItsName) {
  Write("special_tokens_map.json", R"({"pad_token": {"content": "<pad>"}, "sep_token": "<sep>"})");
  Configure("extra_special_tokens", {{"image_token", "<image>"}});
  Configure("cls_token", "<cls>");
  Configure("chat_template", "{{ pad_token }}{{ sep_token }}{{ image_token }}{{ cls_token }}{{ mask_token is defined }}");
  EXPECT_EQ(Rendered(hello_), "<pad><sep><image><cls>False");
}

}  // namespace
}  // namespace ebbinghaus::model
