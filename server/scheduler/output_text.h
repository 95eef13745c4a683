// The text of one generation as its tokens come: valid UTF-8, cut before a stop string.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/text/text_stream.h"

namespace ebbinghaus::scheduler {

// As text::TextStream, but the text of the first `min_new_tokens` tokens is not searched for stop
// strings.
class OutputText {
 public:
  // Prompt and output together read as the text of all their tokens.
  OutputText(std::shared_ptr<const text::Tokenizer> tokenizer, std::vector<std::string> stops,
             uint32_t min_new_tokens, absl::Span<const base::TokenId> prompt = {})
      : stream_(std::move(tokenizer), std::move(stops), prompt),
        unsearched_tokens_(min_new_tokens) {}

  // The text that this token completes; empty once a stop string was found.
  std::string Add(base::TokenId id) {
    const bool search = unsearched_tokens_ == 0;
    if (!search) --unsearched_tokens_;
    return stream_.Add(id, search);
  }

  // What was held back. It may still hold a stop string. Call once, at the end.
  std::string Finish() { return stream_.Finish(); }

  const std::optional<std::string>& matched_stop() const { return stream_.matched_stop(); }

 private:
  text::TextStream stream_;
  uint32_t unsearched_tokens_;
};

}  // namespace ebbinghaus::scheduler
