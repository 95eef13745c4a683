// The text of one generation as its tokens come: valid UTF-8, cut before a stop string.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/base/ids.h"
#include "server/text/text_stream.h"

namespace ebbinghaus::scheduler {

// As text::TextStream, but the text of the first `min_new_tokens` tokens is not searched for stop strings.
class OutputText {
 public:
  OutputText(std::shared_ptr<const text::Tokenizer> tokenizer, std::vector<std::string> stops, uint32_t min_new_tokens)
      : tokenizer_(std::move(tokenizer)),
        decoder_(tokenizer_.get(), /*skip_special=*/true),
        finder_(std::move(stops)),
        unsearched_tokens_(min_new_tokens) {}

  // The text that this token completes; empty once a stop string was found.
  std::string Add(base::TokenId id) {
    const std::string text = decoder_.Add(id);
    if (unsearched_tokens_ == 0) return finder_.Add(text);
    --unsearched_tokens_;
    return text;
  }

  // What was held back. It may still hold a stop string. Call once, at the end.
  std::string Finish() {
    std::string text = finder_.Add(decoder_.Finish());
    return text += finder_.Finish();
  }

  const std::optional<std::string>& matched_stop() const { return finder_.matched(); }

 private:
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  text::TokenDecoder decoder_;
  text::StopStringFinder finder_;
  uint32_t unsearched_tokens_;
};

}  // namespace ebbinghaus::scheduler
