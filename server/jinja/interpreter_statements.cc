#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/interpreter.h"
#include "server/jinja/lexer.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {

using S = Statement::Kind;
using E = Expression::Kind;

namespace {

absl::Status AtLine(const absl::Status& status, uint32_t line) {
  if (status.ok() || absl::IsAborted(status) || absl::IsCancelled(status) || absl::StartsWith(status.message(), "chat template, line ")) return status;
  return absl::Status(status.code(), absl::StrCat("chat template, line ", line, ": ", status.message()));
}

}  // namespace

Interpreter::Interpreter(const Syntax& syntax, const Dict& globals, std::time_t now, const std::function<bool()>* cancelled)
    : syntax_(syntax), globals_(globals), budget_(cancelled), runtime_{budget_, heap_, now} {}

absl::StatusOr<Text> Interpreter::Run() {
  Enter(syntax_.frame, root_);
  Text out;
  EBB_RETURN_IF_ERROR(Execute(syntax_.body, root_, out).status());
  return out;
}

absl::Status Interpreter::Step() {
  if (depth_ > kMaxDepth) return absl::ResourceExhaustedError("nested too deeply");
  budget_.Spend();
  return budget_.status();
}

void Interpreter::Enter(const Frame& frame, Scope& scope) {
  budget_.Spend(frame.loads.size() / 4);
  scope.slots.resize(frame.loads.size(), Value(Missing{}));
  for (const Load& load : frame.loads) {
    Value& slot = scope.slots[load.slot];
    switch (load.action) {
      case Load::Action::kParameter: break;
      case Load::Action::kResolve: slot = Resolve(load.name); break;
      case Load::Action::kAlias: slot = At(scope, load.outer); break;
      case Load::Action::kUndefined: slot = Value(Missing{}); break;
    }
  }
}

Value& Interpreter::At(Scope& scope, Place place) {
  Scope* at = &scope;
  for (uint32_t i = 0; i < place.hops; ++i) at = at->parent;
  return at->slots[place.slot];
}

absl::StatusOr<Interpreter::Flow> Interpreter::Execute(const Block& block, Scope& scope, Text& out) {
  ++depth_;
  absl::StatusOr<Flow> flow = Flow::kNext;
  for (const auto& statement : block) {
    const absl::Status limits = Step();
    flow = limits.ok() ? Execute(*statement, scope, out) : absl::StatusOr<Flow>(limits);
    if (!budget_.ok()) flow = budget_.status();
    if (!flow.ok()) flow = AtLine(flow.status(), statement->line);
    if (!flow.ok() || *flow != Flow::kNext) break;
  }
  --depth_;
  return flow;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Execute(const Statement& s, Scope& scope, Text& out) {
  switch (s.kind) {
    case S::kText: EBB_RETURN_IF_ERROR(Append(s.text, out)); break;
    case S::kOutput:
      for (const auto& part : s.values) {
        EBB_ASSIGN_OR_RETURN(const Value value, Evaluate(*part, scope));
        EBB_RETURN_IF_ERROR(Append(value, out));
      }
      break;
    case S::kIf:
      for (const auto& [test, body] : s.branches) {
        EBB_ASSIGN_OR_RETURN(const Value value, Evaluate(*test, scope));
        if (value.Truth()) return Execute(body, scope, out);
      }
      return Execute(s.otherwise, scope, out);
    case S::kFor: return For(s, scope, out);
    case S::kSet: {
      EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*s.value, scope));
      EBB_RETURN_IF_ERROR(Assign(*s.target, std::move(value), scope));
      break;
    }
    case S::kSetBlock: return SetBlock(s, scope);
    case S::kFilter: return FilterBlock(s, scope, out);
    case S::kMacro: At(scope, s.target->place) = Value(static_cast<Object*>(heap_.New<MacroObject>(budget_, s.macro.get(), &scope))); break;
    case S::kCall: EBB_RETURN_IF_ERROR(CallBlock(s, scope, out)); break;
    case S::kGeneration: {
      EBB_ASSIGN_OR_RETURN(const Value text, CallMacro(MacroObject(s.macro.get(), &scope), {}));
      EBB_RETURN_IF_ERROR(Append(text, out));
      break;
    }
    case S::kWith: return With(s, scope, out);
    case S::kScope: return AutoEscape(s, scope, out);
    case S::kBlock: return Inside(s.frame, nullptr, [&](Scope& inner) { return Execute(s.body, inner, out); });
    case S::kBreak: return Flow::kBreak;
    case S::kContinue: return Flow::kContinue;
    case S::kUnsupported: return Refused(s.text.bytes());
  }
  return Flow::kNext;
}

absl::Status Interpreter::Append(const Value& value, Text& out) {
  if (const Text* text = value.text()) return Append(*text, out);
  EBB_ASSIGN_OR_RETURN(const Text text, Str(value, budget_));
  return Append(text, out);
}

absl::Status Interpreter::Append(const Text& text, Text& out) {
  budget_.SpendBytes(text.size());
  budget_.SpendMemory(text.size());
  if (out.size() + text.size() > Budget::kMaxText) budget_.SpendText(Budget::kMaxText + 1);
  if (budget_.ok()) out.Append(text);
  return budget_.status();
}

absl::Status Interpreter::Assign(const Expression& target, Value value, Scope& scope) {
  if (target.kind == E::kName) {
    At(scope, target.place) = std::move(value);
    return absl::OkStatus();
  }
  if (target.kind == E::kNamespaceName) {
    auto* space = dynamic_cast<Namespace*>(At(scope, target.place).object());
    if (space == nullptr) return Refused("cannot assign attribute on non-namespace object");
    if (!budget_.SpendItems(1)) return budget_.status();
    space->attributes.Set(target.attribute, std::move(value));
    return absl::OkStatus();
  }
  EBB_ASSIGN_OR_RETURN(List items, Items(value, runtime_));
  if (items.size() != target.operands.size()) {
    return Refused(absl::StrCat("cannot unpack ", items.size(), " values into ", target.operands.size(), " names"));
  }
  for (size_t i = 0; i < items.size(); ++i) EBB_RETURN_IF_ERROR(Assign(*target.operands[i], std::move(items[i]), scope));
  return absl::OkStatus();
}

absl::StatusOr<Interpreter::Flow> Interpreter::For(const Statement& s, Scope& scope, Text& out) {
  EBB_ASSIGN_OR_RETURN(const Value iterated, Evaluate(*s.value, scope));
  if (!s.recursive) return RunLoop(s, scope, iterated, 0, out);
  Text text;
  EBB_RETURN_IF_ERROR(RunLoop(s, scope, iterated, 0, text).status());
  EBB_RETURN_IF_ERROR(Append(text, out));
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::RunLoop(const Statement& s, Scope& scope, const Value& iterated, int64_t depth0, Text& out) {
  if (depth_ > kMaxDepth) return absl::ResourceExhaustedError("nested too deeply");
  EBB_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(iterated, runtime_));
  Scope filter_scope{&scope, {}};
  if (s.condition) Enter(s.filter_frame, filter_scope);
  const LoopContext::Pull pull = [&](Value* item) -> absl::StatusOr<bool> {
    while (true) {
      EBB_ASSIGN_OR_RETURN(const bool more, cursor.Next(item));
      if (!more || !s.condition) return more;
      EBB_RETURN_IF_ERROR(Assign(*s.target, *item, filter_scope));
      EBB_ASSIGN_OR_RETURN(const Value keep, Evaluate(*s.condition, filter_scope));
      if (keep.Truth()) return true;
    }
  };
  LoopContext* loop = nullptr;
  if (s.uses_loop) {
    loop = heap_.New<LoopContext>(budget_, pull, s.condition ? -1 : cursor.size(), depth0);
    if (s.recursive) loop->statement = &s, loop->scope = &scope;
  }
  ++depth_;
  const absl::StatusOr<bool> completed = RunTurns(s, scope, loop, pull, out);
  --depth_;
  if (loop != nullptr) loop->Close();
  if (!completed.ok()) return completed.status();
  if (*completed || s.otherwise.empty()) return Flow::kNext;
  return Inside(s.else_frame, &scope, [&](Scope& inner) { return Execute(s.otherwise, inner, out); });
}

// Whether some turn came to its end: one that was left by break or continue does not count.
absl::StatusOr<bool> Interpreter::RunTurns(const Statement& s, Scope& scope, LoopContext* loop, const LoopContext::Pull& pull, Text& out) {
  return Inside(s.frame, &scope, [&](Scope& inner) -> absl::StatusOr<bool> {
    bool completed = false;
    for (Value item;;) {
      EBB_ASSIGN_OR_RETURN(const bool more, loop != nullptr ? loop->Next(&item) : pull(&item));
      if (!more) return completed;
      Enter(s.frame, inner);
      if (loop != nullptr) inner.slots[s.loop_slot] = Value(static_cast<Object*>(loop));
      EBB_RETURN_IF_ERROR(Assign(*s.target, item, inner));
      EBB_ASSIGN_OR_RETURN(const Flow flow, Execute(s.body, inner, out));
      if (flow == Flow::kBreak) return completed;
      completed = completed || flow == Flow::kNext;
    }
  });
}

absl::StatusOr<Interpreter::Flow> Interpreter::SetBlock(const Statement& s, Scope& scope) {
  return Inside(s.frame, &scope, [&](Scope& inner) -> absl::StatusOr<Flow> {
    Text text;
    EBB_ASSIGN_OR_RETURN(const Flow flow, Execute(s.body, inner, text));
    if (flow != Flow::kNext) return flow;
    Value value(std::move(text));
    if (s.value) {
      EBB_ASSIGN_OR_RETURN(value, Filtered(*s.value, value, inner));
    }
    EBB_RETURN_IF_ERROR(Assign(*s.target, std::move(value), scope));
    return Flow::kNext;
  });
}

absl::StatusOr<Interpreter::Flow> Interpreter::FilterBlock(const Statement& s, Scope& scope, Text& out) {
  return Inside(s.frame, &scope, [&](Scope& inner) -> absl::StatusOr<Flow> {
    Text text;
    EBB_ASSIGN_OR_RETURN(const Flow flow, Execute(s.body, inner, text));
    if (flow != Flow::kNext) return flow;
    EBB_ASSIGN_OR_RETURN(const Value value, Filtered(*s.value, Value(std::move(text)), inner));
    EBB_RETURN_IF_ERROR(Append(value, out));
    return Flow::kNext;
  });
}

absl::StatusOr<Interpreter::Flow> Interpreter::With(const Statement& s, Scope& scope, Text& out) {
  return Inside(s.frame, &scope, [&](Scope& inner) -> absl::StatusOr<Flow> {
    for (size_t i = 0; i < s.targets.size(); ++i) {
      EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*s.values[i], scope));
      EBB_RETURN_IF_ERROR(Assign(*s.targets[i], std::move(value), inner));
    }
    return Execute(s.body, inner, out);
  });
}

absl::StatusOr<Interpreter::Flow> Interpreter::AutoEscape(const Statement& s, Scope& scope, Text& out) {
  return Inside(s.frame, &scope, [&](Scope& inner) -> absl::StatusOr<Flow> {
    EBB_ASSIGN_OR_RETURN(const Value on, Evaluate(*s.value, inner));
    if (on.Truth()) return Refused("autoescape is not supported");
    return Execute(s.body, inner, out);
  });
}

absl::Status Interpreter::CallBlock(const Statement& s, Scope& scope, Text& out) {
  const Value caller(static_cast<Object*>(heap_.New<MacroObject>(budget_, s.macro.get(), &scope)));
  EBB_ASSIGN_OR_RETURN(const Value value, Call(*s.value, scope, &caller));
  return Append(value, out);
}

}  // namespace ebbinghaus::jinja
