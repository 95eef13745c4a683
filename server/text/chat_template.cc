#include "server/text/chat_template.h"

#include <new>
#include <utility>

#include "server/base/status_macros.h"
#include "server/text/jinja_interpreter.h"
#include "server/text/jinja_syntax.h"

namespace ebbinghaus::text {

struct ChatTemplate::Parsed {
  jinja::Block block;
  ChatTemplateTokens tokens;
};

namespace {

using jinja::Value;

jinja::List MessageValues(absl::Span<const ChatMessage> messages) {
  jinja::List values;
  for (const ChatMessage& message : messages) {
    values.push_back(Value::Of(jinja::Dict{{"role", Value(jinja::Text(message.role, /*from_message=*/true))},
                                           {"content", Value(jinja::Text(message.content, /*from_message=*/true))}}));
  }
  return values;
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source, ChatTemplateTokens tokens) {
  EBB_ASSIGN_OR_RETURN(jinja::Block block, jinja::ParseTemplate(source));
  ChatTemplate parsed;
  parsed.parsed_ = std::make_shared<const Parsed>(Parsed{std::move(block), std::move(tokens)});
  return parsed;
}

// The limits leave room for more than some machines have.
absl::StatusOr<std::vector<RenderedSegment>> ChatTemplate::RenderSegments(absl::Span<const ChatMessage> messages,
                                                                          bool add_generation_prompt, std::time_t now) const try {
  jinja::NamedValues globals = {{"messages", Value::Of(MessageValues(messages))},
                                {"add_generation_prompt", Value(add_generation_prompt)},
                                {"bos_token", Value::Of(parsed_->tokens.bos_token)},
                                {"eos_token", Value::Of(parsed_->tokens.eos_token)},
                                {"tools", Value(jinja::None{})},
                                {"documents", Value(jinja::None{})}};
  EBB_ASSIGN_OR_RETURN(const jinja::Text text, jinja::Interpreter(std::move(globals), now).Run(parsed_->block));
  std::vector<RenderedSegment> segments;
  for (size_t begin = 0, end; begin < text.size(); begin = end) {
    for (end = begin + 1; end < text.size() && text.marked(end) == text.marked(begin);) ++end;
    segments.push_back({text.bytes().substr(begin, end - begin), text.marked(begin)});
  }
  return segments;
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("chat template: out of memory");
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages, bool add_generation_prompt,
                                                 std::time_t now) const {
  EBB_ASSIGN_OR_RETURN(const auto segments, RenderSegments(messages, add_generation_prompt, now));
  std::string text;
  for (const RenderedSegment& segment : segments) text += segment.text;
  return text;
}

}  // namespace ebbinghaus::text
