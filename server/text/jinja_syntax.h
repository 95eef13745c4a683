// The parsed form of a template, and the parser.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/text/jinja_value.h"

namespace ebbinghaus::text::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<const Expression>;

struct Expression {
  enum class Kind {
    kLiteral, kName, kList, kDict,  // kDict: arguments alternate key, value
    kAttribute, kItem, kSlice,      // arguments: object[, item | begin, end, step (null = absent)]
    kCall,                          // arguments[0] is called with the rest
    kFilter, kTest,                 // name; arguments[0] is the input
    kUnary, kBinary, kAnd, kOr, kNot, kCondition,  // kCondition: then, test, else (null = undefined)
  };
  Kind kind = Kind::kLiteral;
  int line = 0;
  std::string name;  // of names, attributes, filters, tests, operators
  Value literal;
  std::vector<ExpressionPtr> arguments;
  std::vector<std::pair<std::string, ExpressionPtr>> named;  // keyword arguments of calls and filters
};

struct Statement;
using Block = std::vector<std::unique_ptr<const Statement>>;

struct Statement {
  enum class Kind { kText, kOutput, kIf, kFor, kSet, kSetBlock, kMacro, kBreak, kContinue };
  Kind kind = Kind::kText;
  int line = 0;
  std::string text;                // kText
  ExpressionPtr value;             // kOutput, kSet, kFor: what is iterated
  ExpressionPtr filter;            // kFor: its `if`, or null
  std::vector<std::string> names;  // targets of kSet and kFor; kSet may have one "namespace.attribute"
  std::vector<std::pair<ExpressionPtr, Block>> branches;  // kIf
  Block body, otherwise;           // kFor, kSetBlock; `otherwise`: the else of kIf and kFor
  std::unique_ptr<const Macro> macro;
};

struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // with their default, or null
  Block body;
};

// With trim_blocks and lstrip_blocks on, as chat templates expect. Errors: InvalidArgument with the line, for anything
// outside the supported subset: unknown tags, filters, tests and syntax are found here, not when a prompt is made.
absl::StatusOr<Block> ParseTemplate(std::string_view source);

// Whether the interpreter has them (jinja_builtins.cc).
bool IsFilter(std::string_view name);
bool IsTest(std::string_view name);

}  // namespace ebbinghaus::text::jinja
