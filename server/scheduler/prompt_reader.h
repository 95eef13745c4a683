// From the text or chat of a request to the ids of its prompt, with every rule about the two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/base/ids.h"
#include "server/base/violations.h"
#include "server/scheduler/request.h"
#include "server/text/text_model.h"

namespace ebbinghaus::scheduler {

// What cannot fit the context is refused before work is spent on it. Nothing is returned after a violation, and no
// description repeats what a client wrote. Immutable; thread safe.
class PromptReader {
 public:
  PromptReader(std::shared_ptr<const text::TextModel> text, uint32_t context_tokens);

  // Asked every few milliseconds while a text is encoded; true: nobody waits for the ids, and those returned are of no use.
  using Abandoned = std::function<bool()>;

  // Violations under `text`: more than a context of ids is one. An empty text has no ids.
  std::vector<base::TokenId> ReadText(const std::string& text, bool parse_special, base::Violations& violations,
                                      const Abandoned& abandoned = nullptr) const;

  // Violations under `chat`, when the model has no template that can be used, and its parts.
  std::vector<base::TokenId> ReadChat(const ChatInput& chat, bool parse_special, base::Violations& violations,
                                      const Abandoned& abandoned = nullptr) const;

  // Longer texts cannot fit the context, however they are tokenized, so they are refused unread: four times the
  // longest token for every position. (Normalization shortens a text, by three at the most.)
  size_t max_text_bytes() const { return max_text_bytes_; }

 private:
  text::EncodeLimits Limits(const Abandoned& abandoned) const;
  bool CheckLength(const char* field, const std::vector<base::TokenId>& ids, base::Violations& violations) const;
  bool CheckChat(const ChatInput& chat, base::Violations& violations) const;
  void CheckMessages(const ChatInput& chat, base::Violations& violations) const;
  void CheckVariables(const ChatInput& chat, base::Violations& violations) const;
  void CheckSize(const std::string& field, size_t bytes, base::Violations& violations) const;

  const std::shared_ptr<const text::TextModel> text_;
  const uint32_t context_tokens_;
  const size_t max_text_bytes_;
};

}  // namespace ebbinghaus::scheduler
