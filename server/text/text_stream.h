// Token by token back to text: always valid UTF-8, and cut exactly before a stop string.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/ids.h"
#include "server/text/tokenizer.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {

// Decodes a sequence of tokens step by step. All results joined are the text of the whole sequence:
// the tokens' bytes, with ill-formed UTF-8 replaced by U+FFFD (one for each maximal subpart) and
// the tokenizer's rule for leading spaces applied. Ids beyond the tokenizer's size have no text.
// Differs from the reference where it decodes byte fallback tokens that do not form UTF-8: there
// one bad byte turns the whole run of byte tokens into U+FFFD, which would forbid giving out any of
// them before the run ends.
class TokenDecoder {
 public:
  // `tokenizer` must outlive the decoder. Special tokens give their name, or nothing with
  // skip_special.
  TokenDecoder(const Tokenizer* tokenizer, bool skip_special);

  // The text completed by this token; a code point whose bytes are not all there is held back.
  std::string Add(base::TokenId id);
  // What is still held back, as U+FFFD.
  std::string Finish() { return utf8_.Finish(); }

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  LeadingSpace leading_;  // what is left to do
  Utf8Accumulator utf8_;
};

// Finds the first stop string in a text that arrives in parts. The match that begins first in the
// whole text counts, however the text is cut into parts; of those that begin at the same place the
// shortest, which is complete first.
class StopStringFinder {
 public:
  // Requires: valid UTF-8. Empty strings are ignored.
  explicit StopStringFinder(std::vector<std::string> stops);

  // The text that can be given out now; what may be the beginning of a stop string is held back.
  // Nothing after a match.
  std::string Add(std::string_view text);
  // The text ends here: what was held back, up to a stop string that is in it.
  std::string Finish();
  // The stop string that was found.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::string Release(bool final);

  std::vector<std::string> stops_;  // shortest first
  std::string held_;
  std::optional<std::string> matched_;
};

// The text of one generation: TokenDecoder without special tokens, then StopStringFinder.
class TextStream {
 public:
  TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops);

  // The newly completed text, valid UTF-8, perhaps empty. Once stopped() always empty.
  std::string Add(base::TokenId id);
  // The text held back until now; it can still turn out to hold a stop string. Call once, at the
  // end, stopped or not.
  std::string Finish();

  bool stopped() const { return stops_.matched().has_value(); }
  const std::optional<std::string>& matched_stop() const { return stops_.matched(); }

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  TokenDecoder decoder_;
  StopStringFinder stops_;
};

}  // namespace ebbinghaus::text
