// A model's text side: what turns text and chats into token ids and back.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/text/chat_template.h"
#include "server/text/tokenizer.h"

namespace ebbinghaus::text {

// Thread safe as long as its fields are not changed.
struct TextModel {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  // Why there is none although the model's files hold one; empty otherwise.
  std::string chat_template_error;
  std::vector<base::TokenId> eos_token_ids;
  // The date for templates that write it into the prompt.
  std::function<std::time_t()> now = [] { return std::time(nullptr); };

  // The prompt for raw text: BOS where the tokenizer adds it and the text does not begin with it;
  // special tokens inside only with parse_special.
  std::vector<base::TokenId> EncodeText(std::string_view text, bool parse_special,
                                        const EncodeLimits& limits = {}) const;

  // The prompt for a chat, generation prompt included (unless the last message is to be continued).
  // Special tokens that the template writes are special; those inside what the client gave (contents,
  // fields, tools, variables) only with parse_special. A BOS the template wrote first is
  // not doubled; else it is put first where the tokenizer adds it to a text (PutBosFirst). (The
  // reference's apply_chat_template leaves it out then, its users' pipelines do not.) Errors:
  // FailedPrecondition without a usable template; InvalidArgument for what the template refuses;
  // ResourceExhausted beyond its limits; Cancelled when limits.cancelled says so while it renders.
  absl::StatusOr<std::vector<base::TokenId>> EncodeChat(const Chat& chat, bool parse_special,
                                                        const EncodeLimits& limits = {}) const;

  // The text of tokens by themselves, for someone who looks at ids: special tokens appear by their
  // name. Valid UTF-8.
  std::string Decode(absl::Span<const base::TokenId> ids) const;

  // Each token's own bytes (not always UTF-8), in the order of `ids`; empty for ids beyond the
  // tokenizer's.
  std::vector<std::string> Pieces(absl::Span<const base::TokenId> ids) const;
};

// Puts the BOS before a prompt where the tokenizer adds one and none is first. What is first counts,
// not what the text spells further on.
void PutBosFirst(const Tokenizer& tokenizer, std::vector<base::TokenId>& ids);

}  // namespace ebbinghaus::text
