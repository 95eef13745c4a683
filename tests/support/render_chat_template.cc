// Renders chat templates for tests/golden/chat_template/oracle_test.py: one JSON object per line in, one out.
//   {"template", "bos", "eos", "messages": [{"role", "content"}], "add_generation_prompt", "now"} -> {"text"} or {"error"}
#include <iostream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "server/text/chat_template.h"

int main() {
  using nlohmann::json;
  using ebbinghaus::text::ChatTemplate;
  for (std::string line; std::getline(std::cin, line);) {
    const json request = json::parse(line);
    std::vector<ebbinghaus::text::ChatMessage> messages;
    for (const json& message : request["messages"]) messages.push_back({message["role"], message["content"]});
    const auto parsed = ChatTemplate::Parse(request["template"].get<std::string>(), {request["bos"], request["eos"]});
    const absl::StatusOr<std::string> text =
        parsed.ok() ? parsed->Render(messages, request["add_generation_prompt"], request["now"].get<std::time_t>())
                    : absl::StatusOr<std::string>(parsed.status());
    json answer;
    if (text.ok()) answer["text"] = *text;
    else answer["error"] = std::string(text.status().message());
    std::cout << answer.dump(-1, ' ', false, json::error_handler_t::replace) << "\n";
  }
}
