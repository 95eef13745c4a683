#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/interpreter.h"
#include "server/jinja/lexer.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {

using E = Expression::Kind;

absl::StatusOr<Value> Interpreter::Evaluate(const Expression& e, Scope& scope) {
  ++depth_;
  const absl::Status limits = Step();
  absl::StatusOr<Value> value = limits.ok() ? EvaluateParts(e, scope) : absl::StatusOr<Value>(limits);
  --depth_;
  if (value.ok() && value->depth() > Value::kMaxDepth) value = absl::ResourceExhaustedError("nested too deeply");
  if (!budget_.ok()) value = budget_.status();
  const absl::Status& status = value.status();
  if (value.ok() || absl::IsAborted(status) || absl::StartsWith(status.message(), "chat template, line ")) return value;
  return absl::Status(status.code(), absl::StrCat("chat template, line ", e.line, ": ", status.message()));
}

absl::StatusOr<Value> Interpreter::EvaluateParts(const Expression& e, Scope& scope) {
  switch (e.kind) {
    case E::kConstant: return e.constant;
    case E::kUnsupported: return Refused(e.name);
    case E::kName: {
      const Value& value = At(scope, e.place);
      return value.missing() ? Value::Not(absl::StrCat("'", e.name, "' is undefined")) : value;
    }
    case E::kNamespaceName: return Refused("an attribute that cannot be read here");
    case E::kTuple: {
      EBB_ASSIGN_OR_RETURN(List items, EvaluateItems(e, scope));
      return Value::Tuple(std::move(items));
    }
    case E::kList: {
      EBB_ASSIGN_OR_RETURN(List items, EvaluateItems(e, scope));
      return Value::Of(std::move(items));
    }
    case E::kDict: return MakeDict(e, scope);
    case E::kCondition: return Condition(e, scope);
    case E::kCompare: return Comparison(e, scope);
    case E::kConcat: return Concatenation(e, scope);
    case E::kCall: return Call(e, scope);
    case E::kSliceKey: return Refused("a slice among several keys is not supported");
    default: break;
  }
  EBB_ASSIGN_OR_RETURN(const Value first, Evaluate(*e.operands[0], scope));
  switch (e.kind) {
    case E::kBinary: {
      EBB_ASSIGN_OR_RETURN(const Value second, Evaluate(*e.operands[1], scope));
      return Binary(e.name, first, second, runtime_);
    }
    case E::kUnary: {
      if (e.name == "-") return Negated(first);
      if (first.undefined()) return Refused(*first.As<Undefined>()->what);
      if (!first.number()) return Refused(absl::StrCat("'+' does not take ", first.TypeName()));
      return first.As<bool>() ? Value(first.integer()) : first;
    }
    case E::kNot: return Value(!first.Truth());
    case E::kAnd: return first.Truth() ? Evaluate(*e.operands[1], scope) : first;
    case E::kOr: return first.Truth() ? first : Evaluate(*e.operands[1], scope);
    case E::kAttribute: return Attribute(first, Text(e.name), runtime_);
    case E::kItem: {
      EBB_ASSIGN_OR_RETURN(const Value key, Evaluate(*e.operands[1], scope));
      return Item(first, key, runtime_);
    }
    case E::kSlice: {
      Value bounds[3];
      for (size_t i = 0; i < 3; ++i) {
        if (!e.operands[i + 1]) continue;
        EBB_ASSIGN_OR_RETURN(bounds[i], Evaluate(*e.operands[i + 1], scope));
      }
      return Slice(first, bounds[0], bounds[1], bounds[2], runtime_);
    }
    case E::kFilter: return ApplyNamed(e, first, scope);
    case E::kTest: {
      EBB_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(e, 1, scope));
      if (e.test == nullptr) return Refused(absl::StrCat("the test '", e.name.substr(0, 40), "' is not known"));
      EBB_ASSIGN_OR_RETURN(const bool holds, ApplyTest(*e.test, first, arguments, runtime_));
      return Value(holds);
    }
    default: return absl::InternalError("an expression of unknown kind");
  }
}

absl::StatusOr<List> Interpreter::EvaluateItems(const Expression& e, Scope& scope) {
  List items;
  if (!budget_.SpendItems(e.operands.size())) return budget_.status();
  for (const auto& part : e.operands) {
    EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*part, scope));
    items.push_back(std::move(value));
  }
  return items;
}

absl::StatusOr<Value> Interpreter::MakeDict(const Expression& e, Scope& scope) {
  EBB_ASSIGN_OR_RETURN(List parts, EvaluateItems(e, scope));
  Dict dict;
  for (size_t i = 0; i + 1 < parts.size(); i += 2) {
    if (!Hash(parts[i])) return Refused(absl::StrCat("unhashable type: '", parts[i].TypeName(), "'"));
    dict.Set(std::move(parts[i]), std::move(parts[i + 1]));
  }
  return Value::Of(std::move(dict));
}

absl::StatusOr<Value> Interpreter::Condition(const Expression& e, Scope& scope) {
  EBB_ASSIGN_OR_RETURN(const Value test, Evaluate(*e.operands[1], scope));
  if (test.Truth()) return Evaluate(*e.operands[0], scope);
  if (e.operands[2]) return Evaluate(*e.operands[2], scope);
  return Value::Not("the inline if-expression evaluated to false and no else section was defined");
}

absl::StatusOr<Value> Interpreter::Comparison(const Expression& e, Scope& scope) {
  EBB_ASSIGN_OR_RETURN(Value left, Evaluate(*e.operands[0], scope));
  for (size_t i = 0; i < e.operators.size(); ++i) {
    EBB_ASSIGN_OR_RETURN(Value right, Evaluate(*e.operands[i + 1], scope));
    EBB_ASSIGN_OR_RETURN(const bool holds, Compare(e.operators[i], left, right, runtime_));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

absl::StatusOr<Value> Interpreter::Concatenation(const Expression& e, Scope& scope) {
  EBB_ASSIGN_OR_RETURN(const List parts, EvaluateItems(e, scope));
  Text text;
  for (const Value& part : parts) EBB_RETURN_IF_ERROR(Append(part, text));
  return Value(std::move(text));
}

absl::StatusOr<Value> Interpreter::Filtered(const Expression& e, Value input, Scope& scope) {
  if (e.operands[0]) {
    EBB_ASSIGN_OR_RETURN(input, Filtered(*e.operands[0], std::move(input), scope));
  }
  return ApplyNamed(e, input, scope);
}

absl::StatusOr<Value> Interpreter::ApplyNamed(const Expression& e, const Value& input, Scope& scope) {
  EBB_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(e, 1, scope));
  if (e.filter == nullptr) return Refused(absl::StrCat("the filter '", e.name.substr(0, 40), "' is not known"));
  return ApplyFilter(*e.filter, input, arguments, runtime_);
}

absl::StatusOr<Arguments> Interpreter::EvaluateArguments(const Expression& e, size_t first, Scope& scope) {
  Arguments arguments;
  for (size_t i = first; i < e.operands.size(); ++i) {
    EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*e.operands[i], scope));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, part] : e.named) {
    EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*part, scope));
    arguments.named.emplace_back(name, std::move(value));
  }
  if (e.more_positional) {
    EBB_ASSIGN_OR_RETURN(const Value more, Evaluate(*e.more_positional, scope));
    EBB_ASSIGN_OR_RETURN(List items, Items(more, runtime_));
    for (Value& item : items) arguments.positional.push_back(std::move(item));
  }
  if (e.more_named) {
    EBB_ASSIGN_OR_RETURN(const Value more, Evaluate(*e.more_named, scope));
    if (!more.dict()) return Refused("argument after ** must be a mapping");
    for (const auto& [key, value] : more.dict()->entries()) {
      if (!key.text()) return Refused("keywords must be strings");
      const std::string& name = key.text()->bytes();
      if (!budget_.Spend(arguments.named.size() + 1)) return budget_.status();
      const bool known = std::any_of(arguments.named.begin(), arguments.named.end(), [&](const auto& other) { return other.first == name; });
      if (known) return Refused("a keyword argument is given twice");
      arguments.named.emplace_back(name, value);
    }
  }
  return arguments;
}

absl::StatusOr<Value> Interpreter::Call(const Expression& e, Scope& scope, const Value* caller) {
  const Expression& callee = *e.operands[0];
  std::optional<BoundMethod> method;
  Value function;
  if (callee.kind == E::kAttribute) {
    EBB_ASSIGN_OR_RETURN(Value object, Evaluate(*callee.operands[0], scope));
    if (!object.object() && HasMethod(object, callee.name)) {
      method.emplace(std::move(object), callee.name);
    } else {
      EBB_ASSIGN_OR_RETURN(function, Attribute(object, Text(callee.name), runtime_));
    }
  } else {
    EBB_ASSIGN_OR_RETURN(function, Evaluate(callee, scope));
  }
  EBB_ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(e, 1, scope));
  if (caller != nullptr) {
    for (const auto& [name, value] : arguments.named) {
      if (name == "caller") return Refused("the argument 'caller' is given twice");
    }
    arguments.named.emplace_back("caller", *caller);
  }
  if (method) return CallMethod(*method, arguments, runtime_);
  return CallValue(function, std::move(arguments));
}

absl::StatusOr<Value> Interpreter::CallValue(const Value& callee, Arguments arguments) {
  if (callee.undefined()) return Refused(*callee.As<Undefined>()->what);
  Object* object = callee.object();
  if (auto* macro = dynamic_cast<MacroObject*>(object)) return CallMacro(*macro, std::move(arguments));
  if (auto* method = dynamic_cast<BoundMethod*>(object)) return CallMethod(*method, arguments, runtime_);
  if (auto* function = dynamic_cast<GlobalFunction*>(object)) return CallGlobal(function->name, arguments, runtime_);
  if (auto* loop = dynamic_cast<LoopContext*>(object)) return CallLoop(*loop, arguments);
  if (auto* joiner = dynamic_cast<Joiner*>(object)) {
    if (!arguments.positional.empty() || !arguments.named.empty()) return Refused("a joiner takes no arguments");
    return std::exchange(joiner->used, true) ? joiner->separator : Value::Of(std::string());
  }
  return Refused(absl::StrCat("'", callee.TypeName(), "' object is not callable"));
}

absl::StatusOr<Value> Interpreter::CallLoop(const LoopContext& loop, const Arguments& arguments) {
  if (loop.statement == nullptr) return Refused("the loop must have the 'recursive' marker to be called recursively");
  EBB_ASSIGN_OR_RETURN(const auto bound, Signature({"iterable", 1}).Bind("loop", arguments));
  Text text;
  depth_ += 4;  // it takes more of the stack than an expression
  const auto flow = RunLoop(*loop.statement, *loop.scope, *bound[0], loop.depth0 + 1, text);
  depth_ -= 4;
  EBB_RETURN_IF_ERROR(flow.status());
  return Value(std::move(text));
}

absl::StatusOr<Value> Interpreter::CallMacro(const MacroObject& macro, Arguments arguments) {
  const MacroSyntax& syntax = *macro.syntax;
  depth_ += 4;
  absl::StatusOr<Value> result = Inside(syntax.frame, macro.scope, [&](Scope& scope) -> absl::StatusOr<Value> {
    EBB_RETURN_IF_ERROR(BindMacro(syntax, std::move(arguments), scope));
    Text out;
    EBB_RETURN_IF_ERROR(Execute(syntax.body, scope, out).status());
    return Value(std::move(out));
  });
  depth_ -= 4;
  return result;
}

absl::Status Interpreter::BindMacro(const MacroSyntax& macro, Arguments arguments, Scope& scope) {
  auto& named = arguments.named;
  budget_.Spend((macro.parameters.size() + 1) * (named.size() + 1));
  const auto take = [&](const std::string& name) {
    const auto found = std::find_if(named.begin(), named.end(), [&](const auto& argument) { return argument.first == name; });
    if (found == named.end()) return Value(Missing{});
    Value value = std::move(found->second);
    named.erase(found);
    return value;
  };
  const std::string title = macro.has_name ? absl::StrCat("the macro '", macro.name, "'") : "the block";
  const size_t given = std::min(arguments.positional.size(), macro.parameters.size());
  bool found_caller = given == macro.parameters.size() && macro.explicit_caller;
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const Parameter& parameter = macro.parameters[i];
    scope.slots[parameter.slot] = i < given ? arguments.positional[i] : take(parameter.name);
    if (i >= given && parameter.name == "caller") found_caller = true;
  }
  if (macro.uses_caller && !found_caller) {
    const Value caller = take("caller");
    scope.slots[macro.caller_slot] = caller.missing() || caller.none() ? Value::Not("No caller defined") : caller;
  }
  if (macro.uses_kwargs) {
    Dict rest;
    for (auto& [name, value] : named) rest.Set(name, std::move(value));
    scope.slots[macro.kwargs_slot] = Value::Of(std::move(rest));
  } else if (!named.empty()) {
    return Refused(absl::StrCat(title, " takes no keyword argument '", named[0].first.substr(0, 40), "'"));
  }
  if (macro.uses_varargs) {
    scope.slots[macro.varargs_slot] = Value::Tuple({arguments.positional.begin() + static_cast<std::ptrdiff_t>(given), arguments.positional.end()});
  } else if (arguments.positional.size() > given) {
    return Refused(absl::StrCat(title, " takes not more than ", macro.parameters.size(), " argument(s)"));
  }
  for (const Parameter& parameter : macro.parameters) {
    Value& slot = scope.slots[parameter.slot];
    if (!slot.missing()) continue;
    if (!parameter.fallback) {
      slot = Value::Not(absl::StrCat("parameter '", parameter.name, "' was not provided"));
      continue;
    }
    EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*parameter.fallback, scope));
    scope.slots[parameter.slot] = std::move(value);
  }
  return absl::OkStatus();
}

Value Interpreter::Resolve(const std::string& name) {
  for (const auto& [known, slot] : syntax_.top_level) {
    if (known == name && slot < root_.slots.size() && !root_.slots[slot].missing()) return root_.slots[slot];
  }
  if (const Value* value = globals_.Find(name)) return *value;
  if (!IsGlobalFunction(name)) return Value(Missing{});
  const auto [place, added] = functions_.emplace(name, Value());
  if (added) place->second = Value(static_cast<Object*>(heap_.New<GlobalFunction>(budget_, name)));
  return place->second;
}

}  // namespace ebbinghaus::jinja
