// Runs a parsed template. Filters, tests, methods and global functions are in jinja_builtins.cc.
#pragma once

#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/text/jinja_syntax.h"

namespace ebbinghaus::text::jinja {

using NamedValues = std::vector<std::pair<std::string, Value>>;

struct Arguments {
  std::vector<Value> positional;
  NamedValues named;

  // The argument at `index` or of that name; null if neither is given.
  const Value* Get(size_t index, std::string_view name) const;
};

// One rendering. Errors of every kind carry the template's line. One thread.
class Interpreter {
 public:
  // `globals`: what the template sees by name. `now`: what strftime_now formats.
  Interpreter(NamedValues globals, std::time_t now);

  // Errors: InvalidArgument for what the template refuses (raise_exception) or does wrong; ResourceExhausted above the limits
  // on steps, depth and output.
  absl::StatusOr<Text> Run(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  absl::StatusOr<Flow> Execute(const Block& block, Text& out);
  absl::StatusOr<Flow> Execute(const Statement& statement, Text& out);
  absl::StatusOr<Flow> For(const Statement& statement, Text& out);
  absl::Status Assign(const Statement& statement, const std::vector<std::string>& names, Value value);
  absl::StatusOr<Value> Evaluate(const Expression& e);
  absl::StatusOr<Value> EvaluateParts(const Expression& e);
  absl::StatusOr<Value> Item(const Value& object, const Value& key);
  absl::StatusOr<Value> Binary(const Expression& e);
  absl::StatusOr<Value> Call(const Expression& e);
  absl::StatusOr<Value> CallMacro(const Macro& macro, const Arguments& arguments);
  absl::StatusOr<Value> Slice(const Expression& e);
  absl::StatusOr<Arguments> EvaluateArguments(const Expression& e, size_t first);
  absl::Status Step();
  void Append(const Text& text, Text& out);
  Value Look(const std::string& name);
  void Set(const std::string& name, Value value);

  std::vector<NamedValues> scopes_;  // innermost last
  const std::time_t now_;
  Budget budget_;
  int depth_ = 0;
};

// Errors below get their line from the interpreter, which also ends the rendering when they have used up the budget.
absl::StatusOr<Value> ApplyFilter(const std::string& name, const Value& input, const Arguments& arguments, Budget& budget);
absl::StatusOr<bool> ApplyTest(const std::string& name, const Value& input, const Arguments& arguments, Budget& budget);
absl::StatusOr<Value> CallMethod(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget);
absl::StatusOr<Value> CallGlobal(const std::string& name, const Arguments& arguments, std::time_t now, Budget& budget);
bool IsGlobalFunction(std::string_view name);
bool Contains(const Value& container, const Value& item, Budget& budget);
// What a `for` walks over: a list's items, a dict's keys, a string's characters; nothing for undefined.
absl::StatusOr<List> Items(const Value& value, Budget& budget);
absl::StatusOr<Value> Attribute(const Value& object, const std::string& name, Budget& budget);

}  // namespace ebbinghaus::text::jinja
