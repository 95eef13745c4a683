// A model's chat template: from messages to the text of a prompt.
#pragma once

#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ebbinghaus::text {

struct ChatMessage {
  std::string role;
  std::string content;
};

// The special tokens' texts that a template may refer to.
struct ChatTemplateTokens {
  std::string bos_token;
  std::string eos_token;
};

// A piece of a rendered prompt.
struct RenderedSegment {
  std::string text;
  bool from_message = false;  // written by a client, so it must not spell special tokens unless they asked for it
};

// Immutable, cheap to copy, thread safe. The language is Jinja as the `transformers` library sets it up (trim_blocks,
// lstrip_blocks, loop controls), in the subset that chat templates use.
class ChatTemplate {
 public:
  // Errors: InvalidArgument with the line and what is malformed or unsupported.
  static absl::StatusOr<ChatTemplate> Parse(std::string_view source, ChatTemplateTokens tokens);

  // `now` is what strftime_now formats, in UTC. Errors: InvalidArgument for what the template refuses or cannot do with these
  // messages; ResourceExhausted above the limits on steps, depth and output. None of them quotes a message.
  absl::StatusOr<std::vector<RenderedSegment>> RenderSegments(absl::Span<const ChatMessage> messages, bool add_generation_prompt,
                                                              std::time_t now) const;
  // The segments joined.
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages, bool add_generation_prompt, std::time_t now) const;

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
};

}  // namespace ebbinghaus::text
