// SentencePiece's compiled table of replacements, which it normalizes text with.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ebbinghaus::text {

// Immutable; thread safe. Source: the darts-clone double array (the units' bits), SentencePiece's
// normalizer (its two halves).
class Charsmap {
 public:
  // From the bytes: the array's size in bytes (little endian, 32 bits), the array of 32-bit units,
  // and the replacements, each ended by a zero byte. Errors: InvalidArgument.
  static absl::StatusOr<Charsmap> Parse(std::string_view bytes);

  struct Match {
    size_t size = 0;  // of the beginning of the text that is replaced; 0: none is
    std::string_view replacement;
  };
  Match Shortest(std::string_view text) const { return Find(text, /*longest=*/false); }
  Match Longest(std::string_view text) const { return Find(text, /*longest=*/true); }

 private:
  Match Find(std::string_view text, bool longest) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // valid UTF-8
};

}  // namespace ebbinghaus::text
