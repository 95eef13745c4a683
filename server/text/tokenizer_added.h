// Tokens that are recognised in the text as a whole, before anything else is cut.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/base/ids.h"
#include "server/text/tokenizer_normalizer.h"

namespace ebbinghaus::text {

struct AddedToken {
  base::TokenId id = 0;
  std::string content;
  bool single_word = false;  // not inside a word
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // and after it
  bool normalized = false;   // looked for in the normalized text, else in the raw one
  bool special = false;      // recognised only where the caller allows it
};

// Finds a set of added tokens. Immutable; thread safe.
class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  // `pattern`: what to look for, the content or its normalized form; an empty one is never found.
  void Add(const AddedToken& token, std::string_view pattern);
  bool empty() const { return tokens_.empty(); }

  struct Part {
    size_t begin = 0;
    size_t end = 0;
    std::optional<base::TokenId> token;  // nullopt: text between tokens
  };
  // Leftmost match first, of those the longest; as the reference does, a special token that is not
  // allowed still takes its stretch of text away from other matches. One that lies partly in text
  // where it is allowed and partly in text where it is not is none at all, so that what is not
  // allowed cannot disturb its surroundings. O(n * longest pattern).
  std::vector<Part> Split(const MarkedText& text) const;

 private:
  struct Token {
    base::TokenId id;
    bool single_word, lstrip, rstrip, special;
  };
  struct Node {
    std::vector<std::pair<char, uint32_t>> next;  // sorted by character
    int64_t token = -1;  // index into tokens_ of the pattern that ends here
  };
  struct Match {
    size_t end = 0;
    int64_t token = -1;
    bool allowed = false;
  };
  Match LongestAt(const MarkedText& text, size_t begin) const;

  std::vector<Token> tokens_;
  std::vector<Node> nodes_{1};
  std::array<uint32_t, 256> first_{};  // the root's children, 0 for none
};

}  // namespace ebbinghaus::text
