// Cuts a template into text and the tokens inside its tags.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ebbinghaus::text::jinja {

struct Lexeme {
  enum class Kind { kText, kOutputBegin, kOutputEnd, kTagBegin, kTagEnd, kName, kString, kInteger, kFloat, kOperator, kEnd };
  Kind kind = Kind::kEnd;
  std::string text;  // contents of texts and strings (escapes resolved), spelling of the others
  int line = 1;
};

// White space control is applied here: "-" on either side of a tag, trim_blocks, lstrip_blocks, and the one newline that
// Jinja drops at the end of a template. Ends with one kEnd. Errors: InvalidArgument with the line.
absl::StatusOr<std::vector<Lexeme>> Lex(std::string_view source);

}  // namespace ebbinghaus::text::jinja
