// Runs a parsed template.
#pragma once

#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jinja/builtins.h"
#include "server/jinja/heap.h"
#include "server/jinja/loop.h"
#include "server/jinja/syntax.h"

namespace ebbinghaus::jinja {

// One rendering. Errors of every kind carry the template's line. One thread.
class Interpreter {
 public:
  // `globals`: what the template sees by name. All arguments must outlive this.
  Interpreter(const Syntax& syntax, const Dict& globals, std::time_t now, const std::function<bool()>* cancelled);

  // Errors: Aborted with the message of raise_exception; InvalidArgument for what the template does
  // wrong or needs and is not supported; ResourceExhausted above the budget; Cancelled.
  absl::StatusOr<Text> Run();

 private:
  enum class Flow { kNext, kBreak, kContinue };
  static constexpr int kMaxDepth = 450;

  // Statements.
  absl::StatusOr<Flow> Execute(const Block& block, Scope& scope, Text& out);
  absl::StatusOr<Flow> Execute(const Statement& statement, Scope& scope, Text& out);
  absl::StatusOr<Flow> For(const Statement& s, Scope& scope, Text& out);
  absl::StatusOr<Flow> RunLoop(const Statement& s, Scope& scope, const Value& iterated, int64_t depth0, Text& out);
  absl::StatusOr<bool> RunTurns(const Statement& s, Scope& scope, LoopContext* loop, const LoopContext::Pull& pull, Text& out);
  absl::StatusOr<Flow> SetBlock(const Statement& s, Scope& scope);
  absl::StatusOr<Flow> FilterBlock(const Statement& s, Scope& scope, Text& out);
  absl::StatusOr<Flow> With(const Statement& s, Scope& scope, Text& out);
  absl::StatusOr<Flow> AutoEscape(const Statement& s, Scope& scope, Text& out);
  absl::Status CallBlock(const Statement& s, Scope& scope, Text& out);
  absl::Status Assign(const Expression& target, Value value, Scope& scope);
  absl::Status Append(const Value& value, Text& out);
  absl::Status Append(const Text& text, Text& out);

  // Expressions.
  absl::StatusOr<Value> Evaluate(const Expression& e, Scope& scope);
  absl::StatusOr<Value> EvaluateParts(const Expression& e, Scope& scope);
  absl::StatusOr<Value> Condition(const Expression& e, Scope& scope);
  absl::StatusOr<Value> Comparison(const Expression& e, Scope& scope);
  absl::StatusOr<Value> Concatenation(const Expression& e, Scope& scope);
  absl::StatusOr<Value> MakeDict(const Expression& e, Scope& scope);
  absl::StatusOr<Value> Filtered(const Expression& e, Value input, Scope& scope);  // a block's text
  absl::StatusOr<Value> ApplyNamed(const Expression& e, const Value& input, Scope& scope);
  absl::StatusOr<Value> Call(const Expression& e, Scope& scope, const Value* caller = nullptr);
  absl::StatusOr<Value> CallValue(const Value& callee, Arguments arguments);
  absl::StatusOr<Value> CallMacro(const MacroObject& macro, Arguments arguments);
  absl::Status BindMacro(const MacroSyntax& macro, Arguments arguments, Scope& scope);
  absl::StatusOr<Value> CallLoop(const LoopContext& loop, const Arguments& arguments);
  absl::StatusOr<Arguments> EvaluateArguments(const Expression& e, size_t first, Scope& scope);
  absl::StatusOr<List> EvaluateItems(const Expression& e, Scope& scope);

  // Runs `body` in a scope of `frame`, kept for what may outlive it.
  template <typename Body>
  auto Inside(const Frame& frame, Scope* parent, Body body);
  void Enter(const Frame& frame, Scope& scope);
  static Value& At(Scope& scope, Place place);
  Value Resolve(const std::string& name);
  absl::Status Step();

  const Syntax& syntax_;
  const Dict& globals_;
  Budget budget_;
  Heap heap_;
  Runtime runtime_;
  Scope root_{nullptr, {}};
  std::map<std::string, Value> functions_;  // those that were asked for
  int depth_ = 0;
};

// Keeps a scope until the end of the rendering.
struct ScopeObject final : Object {
  const char* TypeName() const override { return "scope"; }
  Scope scope{nullptr, {}};
};

template <typename Body>
auto Interpreter::Inside(const Frame& frame, Scope* parent, Body body) {
  if (frame.captured) {
    Scope& scope = heap_.New<ScopeObject>(budget_)->scope;
    scope.parent = parent;
    Enter(frame, scope);
    return body(scope);
  }
  Scope scope{parent, {}};
  Enter(frame, scope);
  return body(scope);
}

}  // namespace ebbinghaus::jinja
