// A model's text side: what turns text and chats into token ids and back.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/text/chat_template.h"
#include "server/text/tokenizer.h"

namespace ebbinghaus::text {

struct TextModel {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  std::vector<base::TokenId> eos_token_ids;

  // The prompt for raw text: BOS where the tokenizer adds it; special tokens inside only with parse_special.
  std::vector<base::TokenId> EncodeText(std::string_view text, bool parse_special) const;

  // The prompt for a chat, generation prompt included. Special tokens that the template writes are special; those inside
  // message contents only with parse_special. A BOS the template wrote is not doubled.
  // Errors: FailedPrecondition without a template; InvalidArgument for what the template refuses.
  absl::StatusOr<std::vector<base::TokenId>> EncodeChat(absl::Span<const ChatMessage> messages,
                                                        bool parse_special) const;
};

}  // namespace ebbinghaus::text
