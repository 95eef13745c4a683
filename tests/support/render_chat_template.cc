// Renders templates for tests/golden/chat_template/oracle_test.py: one JSON object per line in, one
// out. {"template", "variables": {...}, "now"} -> {"text"} or {"error"}. The last template is kept.
#include <iostream>
#include <optional>
#include <string>

#include "nlohmann/json.hpp"
#include "server/jinja/template.h"
#include "tests/support/json_values.h"

int main() {
  using nlohmann::ordered_json;
  namespace jinja = ebbinghaus::jinja;
  std::string source;
  std::optional<absl::StatusOr<jinja::Template>> parsed;
  for (std::string line; std::getline(std::cin, line);) {
    const ordered_json request = ordered_json::parse(line);
    const auto text_of = request["template"].get<std::string>();
    if (!parsed || text_of != source) parsed = jinja::Template::Parse(source = text_of);
    const jinja::Value variables =
        ebbinghaus::testing::JsonValue(request["variables"], /*from_caller=*/true);
    const absl::StatusOr<jinja::Text> text =
        parsed->ok() ? (**parsed).Render(*variables.dict(), request["now"].get<std::time_t>())
                     : absl::StatusOr<jinja::Text>(parsed->status());
    ordered_json answer;
    if (text.ok()) answer["text"] = text->bytes();
    else answer["error"] = std::string(text.status().message());
    std::cout << answer.dump(-1, ' ', false, ordered_json::error_handler_t::replace) << "\n" << std::flush;
  }
}
