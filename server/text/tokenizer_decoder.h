// How the spelling of a token in its vocabulary becomes its part of a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/text/pretokenizer_regex.h"
#include "server/text/tokenizer.h"

namespace ebbinghaus::text {

// What is done to each token by itself.
struct ReplaceRule {
  std::variant<std::string, Regex> pattern;
  std::string content;
};
struct StripRule {
  TextEnds ends;
};
struct MetaspaceRule {
  std::string replacement;  // stands for a space
  bool drop_first = false;  // and for nothing in the first token
};
struct WordPieceRule {
  std::string prefix;  // of a token that continues a word; others are preceded by a space
  bool cleanup = false;
};
struct WordEndRule {
  std::string suffix;  // stands for a space
};
struct SpaceBetweenRule {};
using TokenRule =
    std::variant<ReplaceRule, StripRule, MetaspaceRule, WordPieceRule, WordEndRule, SpaceBetweenRule>;

struct DecoderRules {
  std::vector<TokenRule> rules;
  size_t fallback_at = SIZE_MAX;  // behind so many rules <0x00> to <0xFF> stand for a byte
  bool byte_level = false;        // then spelled in GPT-2's byte alphabet
  TextEnds ends;                  // of the text as a whole

  // `first`: the token begins the text.
  std::string Text(std::string_view spelled, bool first) const;
  // Whether `first` makes a difference.
  bool MindsFirst() const;
  // Whether tokens are put together with spaces between, special ones too.
  bool PutsSpaces() const;
};

}  // namespace ebbinghaus::text
