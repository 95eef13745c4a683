// Every construct of the language against what jinja2 3.1.6 makes of it
// (tests/golden/chat_template/generate.py).
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "server/jinja/template.h"
#include "tests/support/json_values.h"

namespace ebbinghaus::jinja {
namespace {

nlohmann::ordered_json Fixture() {
  std::ifstream file("tests/golden/chat_template/constructs.json", std::ios::binary);
  return nlohmann::ordered_json::parse(std::string(std::istreambuf_iterator<char>(file), {}));
}

absl::StatusOr<Text> Render(const std::string& source, const Dict& variables, std::time_t now) {
  const absl::StatusOr<Template> parsed = Template::Parse(source);
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(variables, now);
}

TEST(Constructs, RenderAsJinja2RendersThemOrAreRefusedWhereItRefuses) {
  setenv("TZ", "UTC", 1);
  const auto fixture = Fixture();
  const Value variables = testing::JsonValue(fixture["variables"]);
  const auto& rows = fixture["rows"];
  EXPECT_GE(rows.size(), 1500u);
  for (const auto& row : rows) {
    const auto source = row[0].get<std::string>();
    const auto text = Render(source, *variables.dict(), fixture["now"].get<std::time_t>());
    if (row[1].is_null()) {
      EXPECT_FALSE(text.ok()) << source << "\n  is refused by jinja2, and here it is: " << text->bytes();
    } else if (text.ok()) {
      EXPECT_EQ(text->bytes(), row[1].get<std::string>()) << source;
    } else {
      ADD_FAILURE() << source << "\n  " << text.status() << "\n  want: " << row[1];
    }
  }
}

// The output's bytes are the same whoever wrote the variables, and what errors say quotes nobody.
TEST(Constructs, RenderTheSameForWhatCallersWrote) {
  setenv("TZ", "UTC", 1);
  const auto fixture = Fixture();
  const Value own = testing::JsonValue(fixture["variables"]);
  const Value theirs = testing::JsonValue(fixture["variables"], /*from_caller=*/true);
  const auto now = fixture["now"].get<std::time_t>();
  for (const auto& row : fixture["rows"]) {
    const auto source = row[0].get<std::string>();
    const auto a = Render(source, *own.dict(), now), b = Render(source, *theirs.dict(), now);
    ASSERT_EQ(a.ok(), b.ok()) << source;
    if (!a.ok()) {
      EXPECT_EQ(a.status().code(), absl::StatusCode::kInvalidArgument) << source << a.status();
      continue;
    }
    EXPECT_EQ(a->bytes(), b->bytes()) << source;
    if (source.find("%c") == source.npos) EXPECT_FALSE(a->any_marked()) << source;
  }
}

}  // namespace
}  // namespace ebbinghaus::jinja
