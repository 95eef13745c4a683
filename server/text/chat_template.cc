#include "server/text/chat_template.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "server/base/status_macros.h"
#include "server/jinja/template.h"

namespace ebbinghaus::text {

using jinja::Dict;
using jinja::Text;
using jinja::Value;

struct ChatTemplate::Parsed {
  jinja::Template usual;
  std::optional<absl::StatusOr<jinja::Template>> tool_use;
  ChatTemplateTokens tokens;
};

namespace {

Value FromCaller(const std::string& text) { return Value(Text(text, /*from_caller=*/true)); }

Value MessageValue(const ChatMessage& message) {
  Dict dict;
  dict.Set("role", FromCaller(message.role));
  dict.Set("content", FromCaller(message.content));
  for (const auto& [key, value] : message.fields.entries()) dict.Set(key, value);
  return Value::Of(std::move(dict));
}

Dict Variables(const Chat& chat, bool add_generation_prompt, const ChatTemplateTokens& tokens) {
  Dict variables = tokens.others;
  variables.Set("bos_token", Value::Of(tokens.bos_token));
  variables.Set("eos_token", Value::Of(tokens.eos_token));
  variables.Set("documents", Value(jinja::None{}));
  for (const auto& [key, value] : chat.template_variables.entries()) variables.Set(key, value);
  jinja::List messages;
  for (const ChatMessage& message : chat.messages) messages.push_back(MessageValue(message));
  variables.Set("messages", Value::Of(std::move(messages)));
  variables.Set("tools", chat.tools.empty() ? Value(jinja::None{}) : Value::Of(chat.tools));
  variables.Set("add_generation_prompt", Value(add_generation_prompt));
  return variables;
}

std::string_view Trimmed(std::string_view text, bool left, bool right) {
  constexpr std::string_view kBlanks = " \t\n\r\f\v";
  if (left) text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  if (right) text = text.substr(0, text.find_last_not_of(kBlanks) + 1);
  return text;
}

// The text up to the end of the last message's content, as far as the template kept it.
absl::StatusOr<Text> CutBehind(const std::string& content, const Text& text) {
  const std::string_view core = Trimmed(content, true, true), with_end = Trimmed(content, true, false);
  if (core.empty()) return absl::InvalidArgumentError("continue_final_message: the last message has no content to go on with");
  const auto all_marked = [&](size_t begin, size_t end) {
    while (begin < end && text.marked(begin)) ++begin;
    return begin == end;
  };
  for (size_t end = text.size(); end >= core.size();) {
    const size_t found = jinja::FindLastIn(text.bytes(), core, 0, end - core.size());
    if (found == std::string::npos) break;
    if (all_marked(found, found + core.size())) {
      const bool kept = text.bytes().compare(found, with_end.size(), with_end) == 0;
      return text.Slice(0, found + (kept ? with_end : core).size());
    }
    if (found == 0) break;
    end = found + core.size() - 1;
  }
  return absl::InvalidArgumentError("continue_final_message: the template does not write the last message's content as it is");
}

}  // namespace

absl::StatusOr<ChatTemplate> ChatTemplate::Parse(std::string_view source, ChatTemplateTokens tokens, std::string_view tool_use) {
  EBB_ASSIGN_OR_RETURN(jinja::Template usual, jinja::Template::Parse(source));
  Parsed parsed{std::move(usual), std::nullopt, std::move(tokens)};
  if (!tool_use.empty()) parsed.tool_use = jinja::Template::Parse(tool_use);
  ChatTemplate made;
  made.parsed_ = std::make_shared<const Parsed>(std::move(parsed));
  return made;
}

absl::StatusOr<std::vector<RenderedSegment>> ChatTemplate::RenderSegments(const Chat& chat, bool add_generation_prompt, std::time_t now,
                                                                          const std::function<bool()>* cancelled) const {
  const jinja::Template* chosen = &parsed_->usual;
  if (!chat.tools.empty() && parsed_->tool_use) {
    EBB_RETURN_IF_ERROR(parsed_->tool_use->status());
    chosen = &**parsed_->tool_use;
  }
  const bool prompt = add_generation_prompt && !chat.continue_final_message;
  EBB_ASSIGN_OR_RETURN(Text text, chosen->Render(Variables(chat, prompt, parsed_->tokens), now, cancelled));
  if (chat.continue_final_message && !chat.messages.empty()) {
    const ChatMessage& last = chat.messages.back();
    const Value* field = last.fields.Find("content");
    const std::string& content = field && field->text() ? field->text()->bytes() : last.content;
    EBB_ASSIGN_OR_RETURN(text, CutBehind(content, text));
  }
  std::vector<RenderedSegment> segments;
  for (size_t begin = 0, end; begin < text.size(); begin = end) {
    for (end = begin + 1; end < text.size() && text.marked(end) == text.marked(begin);) ++end;
    segments.push_back({text.bytes().substr(begin, end - begin), text.marked(begin)});
  }
  return segments;
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages, bool add_generation_prompt,
                                                 std::time_t now) const {
  const Chat chat{.messages = {messages.begin(), messages.end()}};
  EBB_ASSIGN_OR_RETURN(const auto segments, RenderSegments(chat, add_generation_prompt, now));
  std::string text;
  for (const RenderedSegment& segment : segments) text += segment.text;
  return text;
}

}  // namespace ebbinghaus::text
