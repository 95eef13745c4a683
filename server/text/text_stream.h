// Token by token back to text: always valid UTF-8, and cut exactly before a stop string.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/text/tokenizer.h"
#include "server/text/unicode.h"

namespace ebbinghaus::text {

// Decodes a sequence of tokens step by step. All results joined are the text of the whole sequence:
// the tokens' bytes, with ill-formed UTF-8 replaced by U+FFFD (one for each maximal subpart) and
// the tokenizer's rules for the ends of a text applied. Ids beyond the tokenizer's size have no text.
// Differs from the reference where it decodes byte fallback tokens that do not form UTF-8: there
// one bad byte turns the whole run of byte tokens into U+FFFD, which would forbid giving out any of
// them before the run ends.
class TokenDecoder {
 public:
  // `tokenizer` must outlive the decoder. Special tokens give their name, or nothing with
  // skip_special.
  TokenDecoder(const Tokenizer* tokenizer, bool skip_special);

  // What comes next continues these tokens, whose text the caller has: the two read as the text of
  // all tokens. Call first.
  void Continue(absl::Span<const base::TokenId> prompt);
  // The text completed by this token; a code point whose bytes are not all there is held back, and
  // so is what the end of the text would lose.
  std::string Add(base::TokenId id);
  // What is still held back, as U+FFFD.
  std::string Finish();

 private:
  std::string Strip(std::string text);

  const Tokenizer* tokenizer_;
  bool skip_special_;
  bool first_ = true;  // no token had text yet
  TextEnds ends_;      // at_start: what is left to do
  std::string held_end_;
  Utf8Accumulator utf8_;
};

// Finds the first stop string in a text that arrives in parts. The match that begins first in the
// whole text counts, however the text is cut into parts; of those that begin at the same place the
// shortest, which is complete first. Parts of the text can be hidden: a stop string is found both
// in the text with them and in the text without, but they are never given out.
class StopStringFinder {
 public:
  // Requires: valid UTF-8. Empty strings are ignored.
  explicit StopStringFinder(std::vector<std::string> stops);

  // The text that can be given out now; what may be the beginning of a stop string is held back.
  // Nothing after a match.
  std::string Add(std::string_view text) { return Add(text, '\0'); }
  std::string AddHidden(std::string_view text) { return Add(text, '\1'); }
  // The text ends here: what was held back, up to a stop string that is in it.
  std::string Finish();
  // The stop string that was found.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::string Add(std::string_view text, char hidden);
  std::string Release(bool final);
  std::string Visible(size_t end) const;

  std::vector<std::string> stops_;  // shortest first
  std::string held_;
  std::string hidden_;  // by byte of held_: 1 or 0
  std::optional<std::string> matched_;
};

// The text of one generation: TokenDecoder without special tokens, then StopStringFinder, which
// sees the special tokens' names too.
class TextStream {
 public:
  // The text continues that of `prompt`, which is not searched for stop strings.
  TextStream(std::shared_ptr<const Tokenizer> tokenizer, std::vector<std::string> stops,
             absl::Span<const base::TokenId> prompt = {});

  // The newly completed text, valid UTF-8, perhaps empty. Once stopped() always empty. Text that is
  // not to be searched for stop strings is given out at once.
  std::string Add(base::TokenId id, bool search = true);
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
