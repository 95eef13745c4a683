#include "server/scheduler/prompt_reader.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/jinja/weight.h"

namespace ebbinghaus::scheduler {
namespace {

using base::TokenId;
using base::Violations;

size_t LongestToken(const text::Tokenizer& tokenizer) {
  size_t longest = 1;
  for (TokenId id = 0; id < tokenizer.size(); ++id) longest = std::max(longest, tokenizer.Piece(id).size());
  return longest;
}

}  // namespace

PromptReader::PromptReader(std::shared_ptr<const text::TextModel> text, uint32_t context_tokens)
    : text_(std::move(text)),
      context_tokens_(context_tokens),
      max_text_bytes_(4 * LongestToken(*text_->tokenizer) * context_tokens_) {}

text::EncodeLimits PromptReader::Limits(const Abandoned& abandoned) const {
  return {size_t{context_tokens_} + 1, abandoned};
}

bool PromptReader::CheckLength(const char* field, const std::vector<TokenId>& ids, Violations& violations) const {
  if (ids.size() <= context_tokens_) return true;
  violations.Add(field, absl::StrCat("has more tokens than the context of ", context_tokens_,
                                      " can hold; a prompt must have at most ", context_tokens_ - 1));
  return false;
}

std::vector<TokenId> PromptReader::ReadText(const std::string& text, bool parse_special, Violations& violations,
                                            const Abandoned& abandoned) const {
  if (text.size() > max_text_bytes_) {
    violations.Add("text", absl::StrCat("has ", text.size(), " bytes; at most ", max_text_bytes_,
                                        " can fit the context of ", context_tokens_, " tokens"));
    return {};
  }
  std::vector<TokenId> ids = text_->EncodeText(text, parse_special, Limits(abandoned));
  if (!CheckLength("text", ids, violations)) ids.clear();
  return ids;
}

std::vector<TokenId> PromptReader::ReadChat(const ChatInput& chat, bool parse_special, Violations& violations,
                                            const Abandoned& abandoned) const {
  if (!CheckChat(chat, violations)) return {};
  auto prompt = text_->EncodeChat(chat, parse_special, Limits(abandoned));
  if (!prompt.ok()) {
    // The template words its refusal itself, without the messages' words.
    violations.Add("chat.messages", absl::StrCat("the model's chat template refuses them: ",
                                                 prompt.status().message().substr(0, 256)));
    return {};
  }
  if (prompt->empty()) violations.Add("chat.messages", "the model's chat template makes an empty prompt of them");
  if (!CheckLength("chat.messages", *prompt, violations)) prompt->clear();
  return *std::move(prompt);
}

bool PromptReader::CheckChat(const ChatInput& chat, Violations& violations) const {
  const size_t before = violations.count();
  if (!text_->chat_template && text_->chat_template_error.empty()) {
    violations.Add("chat", "the model has no chat template; use text");
  } else if (!text_->chat_template) {
    violations.Add("chat", absl::StrCat("the model's chat template cannot be used (", text_->chat_template_error.substr(0, 256),
                                        "); use text"));
  } else if (chat.messages.empty()) {
    violations.Add("chat.messages", "must hold at least one message");
  } else if (chat.messages.size() > context_tokens_) {
    violations.Add("chat.messages", absl::StrCat("are ", chat.messages.size(), "; the context of ", context_tokens_,
                                                 " tokens cannot hold more than so many"));
  }
  if (violations.count() > before) return false;
  CheckMessages(chat, violations);
  CheckVariables(chat, violations);
  return violations.count() == before;
}

void PromptReader::CheckMessages(const ChatInput& chat, Violations& violations) const {
  size_t bytes = 0;
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    const text::ChatMessage& message = chat.messages[i];
    const auto field = [i](const char* name) { return absl::StrCat("chat.messages[", i, "].", name); };
    bytes += message.role.size() + message.content.size() + jinja::WeightOf(message.fields);
    if (message.role.empty()) violations.Add(field("role"), "must not be empty");
    if (message.fields.Find("role") != nullptr) violations.Add(field("fields"), "must not hold `role`, which stands beside them");
    if (message.fields.Find("content") != nullptr && !message.content.empty()) {
      violations.Add(field("fields"), "may hold `content` only where the message's content is empty");
    }
    if (!jinja::IsFinite(message.fields)) violations.Add(field("fields"), "must hold finite numbers");
  }
  CheckSize("chat.messages", bytes, violations);
  const text::ChatMessage& last = chat.messages.back();
  if (chat.continue_final_message && last.content.empty() && last.fields.Find("content") == nullptr) {
    violations.Add("chat.continue_final_message", "needs a last message with content");
  }
}

void PromptReader::CheckVariables(const ChatInput& chat, Violations& violations) const {
  size_t bytes = 0;
  for (size_t i = 0; i < chat.tools.size(); ++i) {
    bytes += jinja::WeightOf(chat.tools[i]);
    if (!jinja::IsFinite(chat.tools[i])) violations.Add(absl::StrCat("chat.tools[", i, "]"), "must hold finite numbers");
  }
  CheckSize("chat.tools", bytes, violations);
  for (const char* name : {"messages", "tools", "add_generation_prompt"}) {
    if (chat.template_variables.Find(name) != nullptr) {
      violations.Add("chat.template_variables", absl::StrCat("must not hold `", name, "`, which the server sets"));
    }
  }
  if (!jinja::IsFinite(chat.template_variables)) violations.Add("chat.template_variables", "must hold finite numbers");
  CheckSize("chat.template_variables", jinja::WeightOf(chat.template_variables), violations);
}

void PromptReader::CheckSize(const std::string& field, size_t bytes, Violations& violations) const {
  if (bytes <= max_text_bytes_) return;
  violations.Add(field, absl::StrCat("have ", bytes, " bytes; at most ", max_text_bytes_, " can fit the context of ",
                                     context_tokens_, " tokens"));
}

}  // namespace ebbinghaus::scheduler
