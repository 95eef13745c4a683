// A model's chat templates: from messages to the text of a prompt.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/jinja/value.h"

namespace ebbinghaus::text {

struct ChatMessage {
  std::string role;
  std::string content;
  // What else a template reads of a message: name, tool_calls, tool_call_id, reasoning_content. A
  // field named `content` stands for the content, which is empty then.
  jinja::Dict fields{};
};

// A conversation as a client gives it. All texts inside fields, tools and variables are marked as a
// caller's (jinja::Text).
struct Chat {
  std::vector<ChatMessage> messages;
  jinja::List tools{};                  // mappings; empty: none
  jinja::Dict template_variables{};     // enable_thinking, documents, ...
  bool continue_final_message = false;  // the prompt ends inside the last message
};

// The special tokens' texts that a template may refer to.
struct ChatTemplateTokens {
  std::string bos_token;
  std::string eos_token;
  jinja::Dict others{};  // by their variable's name: pad_token, image_token, ...
};

// A piece of a rendered prompt.
struct RenderedSegment {
  std::string text;
  bool from_message = false;  // written by a client, so it must not spell special tokens unless they asked for it
};

// Immutable, cheap to copy, thread safe. The language is Jinja as the `transformers` library sets it
// up: see jinja::Template.
class ChatTemplate {
 public:
  // `tool_use`: the template for conversations with tools, where the model has one of its own.
  // Errors: InvalidArgument with the line and what is malformed or unknown in `source`.
  static absl::StatusOr<ChatTemplate> Parse(std::string_view source, ChatTemplateTokens tokens, std::string_view tool_use = {});

  // `now` is what strftime_now formats, in local time; `cancelled` as for jinja::Template::Render.
  // Errors: InvalidArgument for what the template refuses or cannot do with this conversation;
  // ResourceExhausted above the limits on steps, depth and output; Cancelled. None of them quotes
  // what the client wrote.
  absl::StatusOr<std::vector<RenderedSegment>> RenderSegments(const Chat& chat, bool add_generation_prompt, std::time_t now,
                                                              const std::function<bool()>* cancelled = nullptr) const;
  // The segments joined, of messages alone.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages, bool add_generation_prompt, std::time_t now) const;

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace ebbinghaus::text
