#include "server/text/jinja_interpreter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::text::jinja {
namespace {

using E = Expression::Kind;
using S = Statement::Kind;

constexpr int kMaxDepth = 200;
constexpr int kMaxValueDepth = 64;  // destructors, comparisons and printing recurse into values
constexpr size_t kNamesPerStep = 32;

absl::Status Bad(const std::string& what) { return absl::InvalidArgumentError(what); }

absl::Status AtLine(const absl::Status& status, int line) {
  if (absl::StartsWith(status.message(), "chat template")) return status;
  return absl::Status(status.code(), absl::StrCat("chat template, line ", line, ": ", std::string(status.message())));
}

// What Python's slice does with one bound.
int64_t ClampBound(const Value* bound, int64_t size, int64_t fallback, int64_t low, int64_t high) {
  if (bound == nullptr || bound->none()) return fallback;
  const int64_t at = bound->integer();
  return std::clamp(at < 0 ? at + size : at, low, high);
}

absl::StatusOr<Value> Arithmetic(const std::string& op, const Value& a, const Value& b) {
  const bool integers = !a.As<double>() && !b.As<double>();
  if ((op == "/" || op == "//" || op == "%") && b.real() == 0) return Bad("division by zero");
  if (!integers || op == "/") {
    const double x = a.real(), y = b.real();
    if (op == "+") return Value(x + y);
    if (op == "-") return Value(x - y);
    if (op == "*") return Value(x * y);
    if (op == "/") return Value(x / y);
    if (op == "//") return Value(std::floor(x / y));
    return Value(x - std::floor(x / y) * y);
  }
  const int64_t x = a.integer(), y = b.integer();
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") overflow = __builtin_add_overflow(x, y, &result);
  else if (op == "-") overflow = __builtin_sub_overflow(x, y, &result);
  else if (op == "*") overflow = __builtin_mul_overflow(x, y, &result);
  else if (y == -1) result = op == "//" ? (x == std::numeric_limits<int64_t>::min() ? (overflow = true, 0) : -x) : 0;
  else result = op == "//" ? x / y - ((x % y != 0) && ((x < 0) != (y < 0))) : (x % y + y) % y;
  if (overflow) return Bad("a number is too large");
  return Value(result);
}

absl::StatusOr<bool> Ordered(const std::string& op, const Value& a, const Value& b) {
  double order = 0;
  if (a.number() && b.number()) order = a.real() - b.real();
  else if (a.text() && b.text()) order = a.text()->bytes().compare(b.text()->bytes());
  else return Bad(absl::StrCat("'", op, "' needs two numbers or two strings"));
  if (op == "<") return order < 0;
  if (op == "<=") return order <= 0;
  if (op == ">") return order > 0;
  return order >= 0;
}

Value Repeat(const Value& a, const Value& b, Budget& budget) {
  const Text& text = a.text() ? *a.text() : *b.text();
  const int64_t count = text.empty() ? 0 : std::min<int64_t>(a.text() ? b.integer() : a.integer(), Budget::kMaxText + 1);
  Text out;
  if (count <= 0 || !budget.SpendText(text.size() * static_cast<size_t>(count))) return Value(std::move(out));
  for (int64_t i = 0; i < count; ++i) out.Append(text);
  return Value(std::move(out));
}

Value Joined(const Text& a, const Text& b, Budget& budget) {
  if (!budget.SpendText(a.size() + b.size())) return Value(Text());
  Text joined = a;
  joined.Append(b);
  return Value(std::move(joined));
}

// A value that may be kept, in a variable or in another value.
absl::Status CheckDepth(const Value& value) {
  if (value.depth() > Value::kNamespaceDepth) return Bad("a namespace inside another value is not supported");
  const bool deep = value.depth() > kMaxValueDepth && value.depth() != Value::kNamespaceDepth;
  return deep ? absl::ResourceExhaustedError("values are nested too deeply") : absl::OkStatus();
}

}  // namespace

const Value* Arguments::Get(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  return Find(named, name);
}

Interpreter::Interpreter(NamedValues globals, std::time_t now) : scopes_(1), now_(now) { scopes_[0] = std::move(globals); }

absl::StatusOr<Text> Interpreter::Run(const Block& block) {
  Text out;
  EBB_RETURN_IF_ERROR(Execute(block, out).status());
  EBB_RETURN_IF_ERROR(budget_.status());
  return out;
}

Value Interpreter::Look(const std::string& name) {
  size_t names = 0;
  for (const NamedValues& scope : scopes_) names += scope.size();
  budget_.Spend(names / kNamesPerStep);
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    if (const Value* value = Find(*scope, name)) return *value;
  }
  if (IsGlobalFunction(name)) return Value(Callable{nullptr, name});
  return Value(Undefined{name});
}

void Interpreter::Set(const std::string& name, Value value) {
  for (auto& [key, old] : scopes_.back()) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  scopes_.back().push_back({name, std::move(value)});
}

absl::Status Interpreter::Step() {
  if (depth_ > kMaxDepth) return absl::ResourceExhaustedError("nested too deeply");
  budget_.Spend();
  return budget_.status();
}

void Interpreter::Append(const Text& text, Text& out) {
  if (budget_.SpendBytes(text.size()) && out.size() + text.size() <= Budget::kMaxText) out.Append(text);
  else budget_.SpendText(Budget::kMaxText + 1);
}

absl::StatusOr<Interpreter::Flow> Interpreter::Execute(const Block& block, Text& out) {
  ++depth_;
  absl::StatusOr<Flow> flow = Flow::kNext;
  for (const auto& statement : block) {
    const absl::Status limits = Step();
    flow = limits.ok() ? Execute(*statement, out) : absl::StatusOr<Flow>(limits);
    if (!budget_.status().ok() && !absl::IsResourceExhausted(flow.status())) flow = budget_.status();
    if (!flow.ok()) flow = AtLine(flow.status(), statement->line);
    if (!flow.ok() || *flow != Flow::kNext) break;
  }
  --depth_;
  return flow;
}

absl::StatusOr<Interpreter::Flow> Interpreter::Execute(const Statement& statement, Text& out) {
  switch (statement.kind) {
    case S::kText:
      Append(Text(statement.text), out);
      break;
    case S::kOutput: {
      EBB_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.value));
      Append(value.ToText(budget_), out);
      break;
    }
    case S::kIf:
      for (const auto& [test, body] : statement.branches) {
        EBB_ASSIGN_OR_RETURN(const Value value, Evaluate(*test));
        if (value.Truth()) return Execute(body, out);
      }
      return Execute(statement.otherwise, out);
    case S::kFor:
      return For(statement, out);
    case S::kSet: {
      EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*statement.value));
      EBB_RETURN_IF_ERROR(Assign(statement, statement.names, std::move(value)));
      break;
    }
    case S::kSetBlock: {
      Text text;
      EBB_ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body, text));
      if (flow != Flow::kNext) return flow;
      EBB_RETURN_IF_ERROR(Assign(statement, statement.names, Value(std::move(text))));
      break;
    }
    case S::kMacro:
      Set(statement.macro->name, Value(Callable{statement.macro.get(), statement.macro->name}));
      break;
    case S::kBreak: return Flow::kBreak;
    case S::kContinue: return Flow::kContinue;
  }
  return Flow::kNext;
}

absl::Status Interpreter::Assign(const Statement&, const std::vector<std::string>& names, Value value) {
  if (names.size() > 1) {
    EBB_ASSIGN_OR_RETURN(List items, Items(value, budget_));
    if (items.size() != names.size()) return Bad(absl::StrCat("cannot unpack ", items.size(), " values into ", names.size(), " names"));
    for (size_t i = 0; i < names.size(); ++i) Set(names[i], std::move(items[i]));
    return absl::OkStatus();
  }
  const size_t dot = names[0].find('.');
  if (dot == std::string::npos) {
    Set(names[0], std::move(value));
    return absl::OkStatus();
  }
  const Value object = Look(names[0].substr(0, dot));
  const auto* space = object.As<Namespace>();
  if (space == nullptr) return Bad("only attributes of a namespace() can be set");
  if (value.depth() == Value::kNamespaceDepth) return Bad("a namespace inside another value is not supported");
  const std::string attribute = names[0].substr(dot + 1);
  budget_.Spend(space->attributes->size() / kNamesPerStep);
  for (auto& [key, old] : *space->attributes) {
    if (key == attribute) {
      old = std::move(value);
      return absl::OkStatus();
    }
  }
  space->attributes->push_back({attribute, std::move(value)});
  return absl::OkStatus();
}

absl::StatusOr<Interpreter::Flow> Interpreter::For(const Statement& statement, Text& out) {
  EBB_ASSIGN_OR_RETURN(const Value iterated, Evaluate(*statement.value));
  EBB_ASSIGN_OR_RETURN(List items, Items(iterated, budget_));
  EBB_RETURN_IF_ERROR(budget_.status());
  scopes_.emplace_back();
  ++depth_;
  const auto leave = [this](absl::StatusOr<Flow> flow) {
    --depth_;
    scopes_.pop_back();
    return flow;
  };
  if (statement.filter) {
    List kept;
    for (Value& item : items) {
      if (absl::Status s = Assign(statement, statement.names, item); !s.ok()) return leave(s);
      absl::StatusOr<Value> keep = Evaluate(*statement.filter);
      if (!keep.ok()) return leave(keep.status());
      if (keep->Truth()) kept.push_back(std::move(item));
    }
    items = std::move(kept);
  }
  const auto count = static_cast<int64_t>(items.size());
  for (int64_t i = 0; i < count; ++i) {
    if (absl::Status s = Step(); !s.ok()) return leave(s);
    scopes_.back().clear();
    const auto neighbour = [&](int64_t at) { return at >= 0 && at < count ? items[at] : Value(Undefined{"loop neighbour"}); };
    Set("loop", Value::Of(Dict{{"index", Value(i + 1)}, {"index0", Value(i)}, {"first", Value(i == 0)}, {"last", Value(i + 1 == count)},
                               {"length", Value(count)}, {"revindex", Value(count - i)}, {"revindex0", Value(count - i - 1)},
                               {"previtem", neighbour(i - 1)}, {"nextitem", neighbour(i + 1)}}));
    if (absl::Status s = Assign(statement, statement.names, items[i]); !s.ok()) return leave(s);
    absl::StatusOr<Flow> flow = Execute(statement.body, out);
    if (!flow.ok()) return leave(flow);
    if (*flow == Flow::kBreak) break;
  }
  leave(Flow::kNext).IgnoreError();
  if (count == 0) return Execute(statement.otherwise, out);
  return Flow::kNext;
}

absl::StatusOr<Value> Interpreter::Evaluate(const Expression& e) {
  ++depth_;
  absl::Status limits = Step();
  absl::StatusOr<Value> value = limits.ok() ? EvaluateParts(e) : absl::StatusOr<Value>(limits);
  --depth_;
  if (value.ok()) limits = CheckDepth(*value);
  if (!budget_.status().ok() && !absl::IsResourceExhausted(value.status())) limits = budget_.status();
  if (!limits.ok()) value = limits;
  if (!value.ok()) return AtLine(value.status(), e.line);
  return value;
}

absl::StatusOr<Value> Interpreter::EvaluateParts(const Expression& e) {
  switch (e.kind) {
    case E::kLiteral: return e.literal;
    case E::kName: return Look(e.name);
    case E::kBinary: return Binary(e);
    case E::kCall: return Call(e);
    case E::kSlice: return Slice(e);
    case E::kList: {
      EBB_ASSIGN_OR_RETURN(Arguments items, EvaluateArguments(e, 0));
      return Value::Of(List(std::move(items.positional)));
    }
    case E::kDict: {
      EBB_ASSIGN_OR_RETURN(Arguments parts, EvaluateArguments(e, 0));
      Dict dict;
      for (size_t i = 0; i + 1 < parts.positional.size(); i += 2) dict.push_back({parts.positional[i].ToText(budget_).bytes(), parts.positional[i + 1]});
      return Value::Of(std::move(dict));
    }
    case E::kCondition: {
      EBB_ASSIGN_OR_RETURN(const Value test, Evaluate(*e.arguments[1]));
      if (test.Truth()) return Evaluate(*e.arguments[0]);
      if (e.arguments[2]) return Evaluate(*e.arguments[2]);
      return Value(Undefined{"the missing else"});
    }
    default: break;
  }
  EBB_ASSIGN_OR_RETURN(const Value first, Evaluate(*e.arguments[0]));
  switch (e.kind) {
    case E::kAttribute: return Attribute(first, e.name, budget_);
    case E::kNot: return Value(!first.Truth());
    case E::kAnd:
      if (!first.Truth()) return first;
      return Evaluate(*e.arguments[1]);
    case E::kOr:
      if (first.Truth()) return first;
      return Evaluate(*e.arguments[1]);
    case E::kUnary:
      if (!first.number()) return Bad(absl::StrCat("'", e.name, "' needs a number"));
      return e.name == "-" ? Arithmetic("-", Value(int64_t{0}), first) : absl::StatusOr<Value>(first);
    case E::kFilter: {
      EBB_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(e, 1));
      return ApplyFilter(e.name, first, arguments, budget_);
    }
    case E::kTest: {
      EBB_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(e, 1));
      EBB_ASSIGN_OR_RETURN(const bool holds, ApplyTest(e.name, first, arguments, budget_));
      return Value(holds);
    }
    case E::kItem: {
      EBB_ASSIGN_OR_RETURN(const Value key, Evaluate(*e.arguments[1]));
      return Item(first, key);
    }
    default: return absl::InternalError("an expression of unknown kind");
  }
}

absl::StatusOr<Value> Interpreter::Item(const Value& object, const Value& key) {
  if (key.text()) {
    EBB_ASSIGN_OR_RETURN(Value item, Attribute(object, key.text()->bytes(), budget_));
    // An error may name it, and must not quote a message.
    if (item.undefined() && key.text()->any_marked()) return Value(Undefined{"an item that a message names"});
    return item;
  }
  if (object.undefined()) return Bad(absl::StrCat("'", object.As<Undefined>()->name, "' is undefined"));
  if (!object.text() && !object.list() && !object.dict()) return Bad("this value has no items");
  std::vector<size_t> offsets;
  if (object.text() && object.SpendOnce(budget_)) offsets = CodePointOffsets(object.text()->bytes());
  const auto size = static_cast<int64_t>(object.list() ? object.list()->size() : offsets.empty() ? 0 : offsets.size() - 1);
  const int64_t at = key.integer() < 0 ? key.integer() + size : key.integer();
  if (!key.number() || at < 0 || at >= size) return Value(Undefined{"an item out of range"});
  return object.list() ? (*object.list())[at] : Value(object.text()->Slice(offsets[at], offsets[at + 1]));
}

absl::StatusOr<Arguments> Interpreter::EvaluateArguments(const Expression& e, size_t first) {
  Arguments arguments;
  for (size_t i = first; i < e.arguments.size(); ++i) {
    EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*e.arguments[i]));
    arguments.positional.push_back(std::move(value));
  }
  for (const auto& [name, expression] : e.named) {
    EBB_ASSIGN_OR_RETURN(Value value, Evaluate(*expression));
    arguments.named.push_back({name, std::move(value)});
  }
  return arguments;
}

absl::StatusOr<Value> Interpreter::Binary(const Expression& e) {
  EBB_ASSIGN_OR_RETURN(const Value a, Evaluate(*e.arguments[0]));
  EBB_ASSIGN_OR_RETURN(const Value b, Evaluate(*e.arguments[1]));
  const std::string& op = e.name;
  if (op == "==") return Value(Equal(a, b, budget_));
  if (op == "!=") return Value(!Equal(a, b, budget_));
  if (op == "in") return Value(Contains(b, a, budget_));
  if (op == "not in") return Value(!Contains(b, a, budget_));
  if (op == "~") return Joined(a.ToText(budget_), b.ToText(budget_), budget_);
  if (a.text() && b.text()) a.SpendOnce(budget_);
  if (op[0] == '<' || op[0] == '>') {
    EBB_ASSIGN_OR_RETURN(const bool holds, Ordered(op, a, b));
    return Value(holds);
  }
  for (const Value* v : {&a, &b}) {
    if (v->undefined()) return Bad(absl::StrCat("'", v->As<Undefined>()->name, "' is undefined"));
  }
  if (op == "+" && a.text() && b.text()) return Joined(*a.text(), *b.text(), budget_);
  if (op == "+" && a.list() && b.list()) {
    if (!a.SpendOnce(budget_) || !b.SpendOnce(budget_)) return budget_.status();
    List joined = *a.list();
    joined.insert(joined.end(), b.list()->begin(), b.list()->end());
    return Value::Of(std::move(joined));
  }
  if (op == "*" && ((a.text() && b.number()) || (a.number() && b.text()))) return Repeat(a, b, budget_);
  if (!a.number() || !b.number()) return Bad(absl::StrCat("'", op, "' does not join these kinds of values"));
  return Arithmetic(op, a, b);
}

absl::StatusOr<Value> Interpreter::Slice(const Expression& e) {
  EBB_ASSIGN_OR_RETURN(const Value object, Evaluate(*e.arguments[0]));
  std::optional<Value> bounds[3];
  for (int i = 0; i < 3; ++i) {
    if (!e.arguments[i + 1]) continue;
    EBB_ASSIGN_OR_RETURN(bounds[i], Evaluate(*e.arguments[i + 1]));
    if (!bounds[i]->none() && !bounds[i]->As<int64_t>()) return Bad("slice bounds must be whole numbers");
  }
  if (!object.text() && !object.list()) return Bad("only strings and lists have slices");
  if (!object.SpendOnce(budget_)) return budget_.status();
  const std::vector<size_t> offsets = object.text() ? CodePointOffsets(object.text()->bytes()) : std::vector<size_t>();
  const auto bound = [&](int i) { return bounds[i] ? &*bounds[i] : nullptr; };
  const auto size = static_cast<int64_t>(object.list() ? object.list()->size() : offsets.size() - 1);
  const int64_t step = bound(2) && !bound(2)->none() ? bound(2)->integer() : 1;
  if (step == 0) return Bad("a slice's step must not be 0");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
  const int64_t begin = ClampBound(bound(0), size, step > 0 ? 0 : size - 1, low, high);
  const int64_t end = ClampBound(bound(1), size, step > 0 ? size : -1, low, high);
  List items;
  Text text;
  if (object.text() && step == 1) return Value(object.text()->Slice(offsets[begin], offsets[std::max(begin, end)]));
  for (int64_t i = begin; step > 0 ? i < end : i > end;) {
    if (object.list()) items.push_back((*object.list())[i]);
    else text.Append(object.text()->Slice(offsets[i], offsets[i + 1]));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return object.list() ? Value::Of(std::move(items)) : Value(std::move(text));
}

absl::StatusOr<Value> Interpreter::Call(const Expression& e) {
  const Expression& callee = *e.arguments[0];
  EBB_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(e, 1));
  if (callee.kind == E::kAttribute) {
    EBB_ASSIGN_OR_RETURN(const Value object, Evaluate(*callee.arguments[0]));
    return CallMethod(object, callee.name, arguments, budget_);
  }
  EBB_ASSIGN_OR_RETURN(const Value function, Evaluate(callee));
  const auto* callable = function.As<Callable>();
  if (callable == nullptr) {
    return Bad(function.undefined() ? absl::StrCat("'", function.As<Undefined>()->name, "' is undefined") : "this value cannot be called");
  }
  if (callable->macro != nullptr) return CallMacro(*callable->macro, arguments);
  return CallGlobal(callable->name, arguments, now_, budget_);
}

absl::StatusOr<Value> Interpreter::CallMacro(const Macro& macro, const Arguments& arguments) {
  if (arguments.positional.size() > macro.parameters.size()) return Bad(absl::StrCat("too many arguments for the macro ", macro.name));
  budget_.Spend(macro.parameters.size() * (1 + arguments.named.size() / kNamesPerStep));
  NamedValues scope;
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const auto& [name, fallback] = macro.parameters[i];
    Value value(Undefined{name});
    if (const Value* given = arguments.Get(i, name)) {
      value = *given;
    } else if (fallback) {
      EBB_ASSIGN_OR_RETURN(value, Evaluate(*fallback));
    }
    scope.push_back({name, std::move(value)});
  }
  // A macro sees the template's top level and its own parameters.
  budget_.Spend(scopes_.front().size());
  std::vector<NamedValues> outer = std::exchange(scopes_, {scopes_.front(), std::move(scope)});
  ++depth_;
  Text out;
  const absl::StatusOr<Flow> flow = Execute(macro.body, out);
  --depth_;
  outer.front() = std::move(scopes_.front());
  scopes_ = std::move(outer);
  EBB_RETURN_IF_ERROR(flow.status());
  return Value(std::move(out));
}

}  // namespace ebbinghaus::text::jinja
