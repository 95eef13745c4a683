// Cuts a template into lexemes, as jinja2's lexer with trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ebbinghaus::jinja {

struct Lexeme {
  enum class Kind {
    kText,         // to be copied
    kOutputBegin,  // {{
    kOutputEnd,    // }}
    kTagBegin,     // {%
    kTagEnd,       // %}
    kName,
    kString,   // unescaped
    kInteger,  // as written, without underscores
    kFloat,
    kOperator,
    kEnd,
  };
  Kind kind;
  std::string text;
  uint32_t line;
};

// Ends with a kEnd. Errors: InvalidArgument with the line.
absl::StatusOr<std::vector<Lexeme>> Lex(std::string_view source);

// An error at a line of the template.
absl::Status TemplateError(uint32_t line, std::string_view what);

}  // namespace ebbinghaus::jinja
