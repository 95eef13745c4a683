// A parsed template.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jinja/value.h"

namespace ebbinghaus::jinja {

struct Filter;  // builtins.h
struct Test;

// Where a name lives: in a frame, `hops` outside the one that the expression runs in.
struct Place {
  uint32_t hops = 0, slot = 0;
};

// What a frame does to one of its variables when it is entered.
struct Load {
  enum class Action { kParameter, kResolve, kAlias, kUndefined };
  Action action;
  uint32_t slot;
  std::string name;  // kResolve
  Place outer;       // kAlias, seen from the frame itself
};

// The variables of a scope, as jinja2's compiler lays them out: which are a scope's own follows
// from the text of the template, not from what runs.
struct Frame {
  std::vector<Load> loads;
  bool captured = false;  // a macro in it may outlive it
};

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    kConstant,
    kUnsupported,  // `name` says what; an error when it is reached
    kName,
    kNamespaceName,  // a target: name.attribute
    kTuple,
    kList,
    kDict,      // operands: key, value, ...
    kBinary,    // name: the operator
    kUnary,     // name: "-" or "+"
    kNot,
    kAnd,
    kOr,
    kConcat,    // ~
    kCompare,   // operands: first, then one for each of `operators`
    kCondition, // operands: value, test, else (may be null)
    kAttribute, // operands: object
    kItem,      // operands: object, key
    kSlice,     // operands: object, start, stop, step (may be null)
    kSliceKey,  // a slice among other keys, which nothing takes
    kCall,      // operands: callee, arguments
    kFilter,    // operands: input (may be null in blocks), arguments
    kTest,      // operands: input, arguments
  };
  Kind kind = Kind::kConstant;
  uint32_t line = 0;
  int height = 1;
  std::string name, attribute;
  Value constant;
  std::vector<ExpressionPtr> operands;
  std::vector<std::string> operators;
  std::vector<std::pair<std::string, ExpressionPtr>> named;  // arguments by name
  ExpressionPtr more_positional, more_named;                 // *these and **those
  const Filter* filter = nullptr;                            // null: none of that name
  const Test* test = nullptr;
  Place place;
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

struct Parameter {
  std::string name;
  ExpressionPtr fallback;  // may be null
  uint32_t slot = 0;
};

// The body of a macro, of {% call %} or of {% generation %}.
struct MacroSyntax {
  std::string name;
  std::vector<Parameter> parameters;
  Block body;
  Frame frame;
  bool has_name = true, explicit_caller = false;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
  uint32_t caller_slot = 0, kwargs_slot = 0, varargs_slot = 0;
};

struct Statement {
  enum class Kind {
    kText, kOutput, kIf, kFor, kSet, kSetBlock, kMacro, kCall, kGeneration, kFilter, kWith, kScope,
    kBlock, kBreak, kContinue, kUnsupported,
  };
  Kind kind = Kind::kText;
  uint32_t line = 0;
  Text text;                                             // kText; what is not supported
  std::vector<ExpressionPtr> values;                     // kOutput; kWith: each target's
  ExpressionPtr target, value, condition;                // kFor: target, iterated, filter; kSet
  std::vector<ExpressionPtr> targets;                    // kWith
  std::vector<std::pair<ExpressionPtr, Block>> branches; // kIf
  Block body, otherwise;
  std::unique_ptr<MacroSyntax> macro;
  bool recursive = false;
  bool uses_loop = false;
  uint32_t loop_slot = 0;
  Frame frame, filter_frame, else_frame;  // of the body; kFor has three
};

struct Syntax {
  Block body;
  Frame frame;
  std::vector<std::pair<std::string, uint32_t>> top_level;  // the frame's variables by name
};

// Errors: InvalidArgument with the line and what is malformed.
absl::StatusOr<Syntax> ParseTemplate(std::string_view source);

// Gives every name its place (see Frame) and every filter and test its function. Errors:
// InvalidArgument for what jinja2 refuses to compile.
absl::Status Bind(Syntax& syntax);

}  // namespace ebbinghaus::jinja
