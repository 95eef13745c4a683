#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/parser.h"

namespace ebbinghaus::jinja {

using E = Expression::Kind;

absl::Status ExpressionParser::Unexpected(std::string_view wanted) const {
  std::string what;
  if (now().kind == Kind::kEnd) what = "the template ends";
  else if (now().kind == Kind::kTagEnd) what = "the tag ends";
  else if (now().kind == Kind::kOutputEnd) what = "'}}'";
  else what = absl::StrCat("'", now().text.substr(0, 40), "'");
  return Bad(absl::StrCat("expected ", std::string(wanted), " before ", what));
}

absl::Status ExpressionParser::Expect(std::string_view op) {
  return TakeOperator(op) ? absl::OkStatus() : Unexpected(absl::StrCat("'", std::string(op), "'"));
}

absl::StatusOr<std::string> ExpressionParser::ExpectName() {
  if (now().kind != Kind::kName) return Unexpected("a name");
  return Take().text;
}

ExpressionPtr ExpressionParser::Make(E kind, uint32_t line, std::string name) const {
  auto e = std::make_unique<Expression>();
  e->kind = kind;
  e->line = line;
  e->name = std::move(name);
  return e;
}

absl::Status ExpressionParser::Adopt(Expression& parent, ExpressionPtr child) const {
  if (child) parent.height = std::max(parent.height, child->height + 1);
  parent.operands.push_back(std::move(child));
  return parent.height > kMaxHeight ? Bad("nested too deeply") : absl::OkStatus();
}

ExpressionParser::Result ExpressionParser::Join(E kind, std::string name, ExpressionPtr a, ExpressionPtr b) const {
  auto joined = Make(kind, a->line, std::move(name));
  EBB_RETURN_IF_ERROR(Adopt(*joined, std::move(a)));
  EBB_RETURN_IF_ERROR(Adopt(*joined, std::move(b)));
  return joined;
}

bool ExpressionParser::AtTupleEnd() const {
  return now().kind == Kind::kOutputEnd || now().kind == Kind::kTagEnd || IsOperator(")");
}

ExpressionParser::Result ExpressionParser::ParseTuple(bool with_condition, bool in_brackets) {
  auto tuple = Make(E::kTuple, now().line);
  bool is_tuple = false;
  while (true) {
    if (!tuple->operands.empty()) EBB_RETURN_IF_ERROR(Expect(","));
    if (AtTupleEnd()) break;
    EBB_ASSIGN_OR_RETURN(auto item, with_condition ? ParseExpression() : ParseOr());
    EBB_RETURN_IF_ERROR(Adopt(*tuple, std::move(item)));
    if (!IsOperator(",")) break;
    is_tuple = true;
  }
  if (is_tuple) return tuple;
  if (!tuple->operands.empty()) return std::move(tuple->operands[0]);
  if (!in_brackets) return Unexpected("an expression");
  return tuple;
}

ExpressionParser::Result ExpressionParser::ParseTarget(bool with_tuple, bool with_namespace) {
  auto tuple = Make(E::kTuple, now().line);
  bool is_tuple = false;
  while (true) {
    if (!tuple->operands.empty()) EBB_RETURN_IF_ERROR(Expect(","));
    if (with_tuple && AtTupleEnd()) break;
    const uint32_t line = now().line;
    EBB_ASSIGN_OR_RETURN(auto item, ParsePrimary(with_namespace));
    const bool assignable = item->kind == E::kName || item->kind == E::kNamespaceName || item->kind == E::kTuple;
    if (!assignable) return TemplateError(line, "this cannot be assigned to");
    EBB_RETURN_IF_ERROR(Adopt(*tuple, std::move(item)));
    if (!with_tuple || !IsOperator(",")) break;
    is_tuple = true;
  }
  for (const auto& item : tuple->operands) {
    // A bracketed tuple was read as an expression: only names may be in it.
    for (std::vector<const Expression*> todo = {item.get()}; !todo.empty();) {
      const Expression* e = todo.back();
      todo.pop_back();
      if (e->kind == E::kName || e->kind == E::kNamespaceName) continue;
      if (e->kind != E::kTuple) return TemplateError(e->line, "this cannot be assigned to");
      for (const auto& inner : e->operands) todo.push_back(inner.get());
    }
  }
  if (is_tuple) return tuple;
  if (tuple->operands.empty()) return Unexpected("an expression");
  return std::move(tuple->operands[0]);
}

ExpressionParser::Result ExpressionParser::ParseExpression() {
  const Deeper deeper(&depth_);
  if (TooDeep()) return Bad("nested too deeply");
  EBB_ASSIGN_OR_RETURN(auto value, ParseOr());
  while (TakeName("if")) {
    EBB_ASSIGN_OR_RETURN(auto test, ParseOr());
    ExpressionPtr otherwise;
    if (TakeName("else")) {
      EBB_ASSIGN_OR_RETURN(otherwise, ParseExpression());
    }
    EBB_ASSIGN_OR_RETURN(value, Join(E::kCondition, "", std::move(value), std::move(test)));
    EBB_RETURN_IF_ERROR(Adopt(*value, std::move(otherwise)));
  }
  return value;
}

ExpressionParser::Result ExpressionParser::ParseOr() {
  EBB_ASSIGN_OR_RETURN(auto value, ParseAnd());
  while (TakeName("or")) {
    EBB_ASSIGN_OR_RETURN(auto right, ParseAnd());
    EBB_ASSIGN_OR_RETURN(value, Join(E::kOr, "", std::move(value), std::move(right)));
  }
  return value;
}

ExpressionParser::Result ExpressionParser::ParseAnd() {
  EBB_ASSIGN_OR_RETURN(auto value, ParseNot());
  while (TakeName("and")) {
    EBB_ASSIGN_OR_RETURN(auto right, ParseNot());
    EBB_ASSIGN_OR_RETURN(value, Join(E::kAnd, "", std::move(value), std::move(right)));
  }
  return value;
}

ExpressionParser::Result ExpressionParser::ParseNot() {
  const Deeper deeper(&depth_);
  if (TooDeep()) return Bad("nested too deeply");
  if (!IsName("not")) return ParseComparison();
  auto negated = Make(E::kNot, Take().line);
  EBB_ASSIGN_OR_RETURN(auto value, ParseNot());
  EBB_RETURN_IF_ERROR(Adopt(*negated, std::move(value)));
  return negated;
}

ExpressionParser::Result ExpressionParser::ParseComparison() {
  EBB_ASSIGN_OR_RETURN(auto value, ParseSum());
  auto comparison = Make(E::kCompare, value->line);
  EBB_RETURN_IF_ERROR(Adopt(*comparison, std::move(value)));
  while (true) {
    std::string op;
    for (const char* known : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (IsOperator(known)) op = known;
    }
    if (IsName("in")) op = "in";
    if (IsName("not") && next().kind == Kind::kName && next().text == "in") {
      Take();
      op = "not in";
    }
    if (op.empty()) break;
    Take();
    EBB_ASSIGN_OR_RETURN(auto right, ParseSum());
    comparison->operators.push_back(std::move(op));
    EBB_RETURN_IF_ERROR(Adopt(*comparison, std::move(right)));
  }
  if (comparison->operators.empty()) return std::move(comparison->operands[0]);
  return comparison;
}

ExpressionParser::Result ExpressionParser::ParseSum() {
  EBB_ASSIGN_OR_RETURN(auto value, ParseConcat());
  while (IsOperator("+") || IsOperator("-")) {
    const std::string op = Take().text;
    EBB_ASSIGN_OR_RETURN(auto right, ParseConcat());
    EBB_ASSIGN_OR_RETURN(value, Join(E::kBinary, op, std::move(value), std::move(right)));
  }
  return value;
}

ExpressionParser::Result ExpressionParser::ParseConcat() {
  EBB_ASSIGN_OR_RETURN(auto value, ParseProduct());
  if (!IsOperator("~")) return value;
  auto joined = Make(E::kConcat, value->line);
  EBB_RETURN_IF_ERROR(Adopt(*joined, std::move(value)));
  while (TakeOperator("~")) {
    EBB_ASSIGN_OR_RETURN(auto right, ParseProduct());
    EBB_RETURN_IF_ERROR(Adopt(*joined, std::move(right)));
  }
  return joined;
}

ExpressionParser::Result ExpressionParser::ParseProduct() {
  EBB_ASSIGN_OR_RETURN(auto value, ParsePower());
  while (IsOperator("*") || IsOperator("/") || IsOperator("//") || IsOperator("%")) {
    const std::string op = Take().text;
    EBB_ASSIGN_OR_RETURN(auto right, ParsePower());
    EBB_ASSIGN_OR_RETURN(value, Join(E::kBinary, op, std::move(value), std::move(right)));
  }
  return value;
}

ExpressionParser::Result ExpressionParser::ParsePower() {
  EBB_ASSIGN_OR_RETURN(auto value, ParseUnary(true));
  while (TakeOperator("**")) {  // from the left, unlike Python's
    EBB_ASSIGN_OR_RETURN(auto right, ParseUnary(true));
    EBB_ASSIGN_OR_RETURN(value, Join(E::kBinary, "**", std::move(value), std::move(right)));
  }
  return value;
}

ExpressionParser::Result ExpressionParser::ParseUnary(bool with_filter) {
  const Deeper deeper(&depth_);
  if (TooDeep()) return Bad("nested too deeply");
  ExpressionPtr value;
  if (IsOperator("-") || IsOperator("+")) {
    const Lexeme& sign = Take();
    value = Make(E::kUnary, sign.line, sign.text);
    EBB_ASSIGN_OR_RETURN(auto operand, ParseUnary(false));
    EBB_RETURN_IF_ERROR(Adopt(*value, std::move(operand)));
  } else {
    EBB_ASSIGN_OR_RETURN(value, ParsePrimary(false));
  }
  EBB_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
  if (!with_filter) return value;
  return ParseBehind(std::move(value));
}

ExpressionParser::Result ExpressionParser::ParsePrimary(bool with_namespace) {
  const uint32_t line = now().line;
  switch (now().kind) {
    case Kind::kName: return ParseNamed(with_namespace);
    case Kind::kString: {
      auto literal = Make(E::kConstant, line);
      std::string text;
      while (now().kind == Kind::kString) text += Take().text;  // neighbours join, as in Python
      literal->constant = Value::Of(std::move(text));
      return literal;
    }
    case Kind::kInteger:
    case Kind::kFloat: return ParseNumber();
    default: break;
  }
  if (TakeOperator("(")) {
    EBB_ASSIGN_OR_RETURN(auto tuple, ParseTuple(true, /*in_brackets=*/true));
    EBB_RETURN_IF_ERROR(Expect(")"));
    return tuple;
  }
  if (IsOperator("[")) return ParseList();
  if (IsOperator("{")) return ParseDict();
  return Unexpected("an expression");
}

ExpressionParser::Result ExpressionParser::ParseNamed(bool with_namespace) {
  const Lexeme& lexeme = Take();
  const std::string& name = lexeme.text;
  auto literal = Make(E::kConstant, lexeme.line);
  if (name == "true" || name == "True") {
    literal->constant = Value(true);
  } else if (name == "false" || name == "False") {
    literal->constant = Value(false);
  } else if (name == "none" || name == "None") {
    literal->constant = Value(None{});
  } else if (!IsIdentifier(name)) {
    return TemplateError(lexeme.line, "invalid character in identifier");
  } else if (with_namespace && TakeOperator(".")) {
    literal->kind = E::kNamespaceName;
    literal->name = name;
    EBB_ASSIGN_OR_RETURN(literal->attribute, ExpectName());
  } else {
    literal->kind = E::kName;
    literal->name = name;
  }
  return literal;
}

ExpressionParser::Result ExpressionParser::ParseNumber() {
  const Lexeme& lexeme = Take();
  auto literal = Make(E::kConstant, lexeme.line);
  if (lexeme.kind == Kind::kFloat) {
    literal->constant = Value(std::strtod(lexeme.text.c_str(), nullptr));
    return literal;
  }
  const std::string& digits = lexeme.text;
  int base = 10;
  if (digits.size() > 1 && digits[0] == '0') {
    const char kind = static_cast<char>(digits[1] | 0x20);
    base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
  }
  errno = 0;
  const long long value = std::strtoll(digits.c_str() + (base == 10 ? 0 : 2), nullptr, base);
  literal->constant = Value(static_cast<int64_t>(value));
  if (errno == ERANGE) {
    literal->kind = E::kUnsupported;
    literal->name = "an integer beyond 64 bits is not supported";
  }
  return literal;
}

ExpressionParser::Result ExpressionParser::ParseList() {
  auto list = Make(E::kList, Take().line);
  while (!IsOperator("]")) {
    if (!list->operands.empty()) EBB_RETURN_IF_ERROR(Expect(","));
    if (IsOperator("]")) break;
    EBB_ASSIGN_OR_RETURN(auto item, ParseExpression());
    EBB_RETURN_IF_ERROR(Adopt(*list, std::move(item)));
  }
  EBB_RETURN_IF_ERROR(Expect("]"));
  return list;
}

ExpressionParser::Result ExpressionParser::ParseDict() {
  auto dict = Make(E::kDict, Take().line);
  while (!IsOperator("}")) {
    if (!dict->operands.empty()) EBB_RETURN_IF_ERROR(Expect(","));
    if (IsOperator("}")) break;
    EBB_ASSIGN_OR_RETURN(auto key, ParseExpression());
    EBB_RETURN_IF_ERROR(Expect(":"));
    EBB_ASSIGN_OR_RETURN(auto value, ParseExpression());
    EBB_RETURN_IF_ERROR(Adopt(*dict, std::move(key)));
    EBB_RETURN_IF_ERROR(Adopt(*dict, std::move(value)));
  }
  EBB_RETURN_IF_ERROR(Expect("}"));
  return dict;
}

ExpressionParser::Result ExpressionParser::ParseCall(ExpressionPtr callee) {
  auto call = Make(E::kCall, now().line);
  EBB_RETURN_IF_ERROR(Adopt(*call, std::move(callee)));
  EBB_RETURN_IF_ERROR(ParseArguments(*call));
  return call;
}

ExpressionParser::Result ExpressionParser::ParsePostfix(ExpressionPtr value) {
  while (true) {
    if (IsOperator(".") || IsOperator("[")) {
      EBB_ASSIGN_OR_RETURN(value, ParseSubscript(std::move(value)));
    } else if (IsOperator("(")) {
      EBB_ASSIGN_OR_RETURN(value, ParseCall(std::move(value)));
    } else {
      return value;
    }
  }
}

// Filters, tests and calls of what they give.
ExpressionParser::Result ExpressionParser::ParseBehind(ExpressionPtr value) {
  while (true) {
    if (IsOperator("|")) {
      EBB_ASSIGN_OR_RETURN(value, ParseFilters(std::move(value), false));
    } else if (IsName("is")) {
      EBB_ASSIGN_OR_RETURN(value, ParseTest(std::move(value)));
    } else if (IsOperator("(")) {
      EBB_ASSIGN_OR_RETURN(value, ParseCall(std::move(value)));
    } else {
      return value;
    }
  }
}

ExpressionParser::Result ExpressionParser::ParseSubscript(ExpressionPtr object) {
  const uint32_t line = now().line;
  if (TakeOperator(".")) {
    auto part = Make(now().kind == Kind::kName ? E::kAttribute : E::kItem, line);
    EBB_RETURN_IF_ERROR(Adopt(*part, std::move(object)));
    if (now().kind == Kind::kName) {
      part->name = Take().text;
      return part;
    }
    if (now().kind != Kind::kInteger) return Unexpected("a name or number");
    EBB_ASSIGN_OR_RETURN(auto key, ParseNumber());
    EBB_RETURN_IF_ERROR(Adopt(*part, std::move(key)));
    return part;
  }
  Take();
  std::vector<ExpressionPtr> keys;
  while (!IsOperator("]")) {
    if (!keys.empty()) EBB_RETURN_IF_ERROR(Expect(","));
    EBB_ASSIGN_OR_RETURN(auto key, ParseKey());
    keys.push_back(std::move(key));
  }
  EBB_RETURN_IF_ERROR(Expect("]"));
  if (keys.size() == 1 && keys[0]->kind == E::kSlice) {
    auto slice = std::move(keys[0]);
    slice->height = std::max(slice->height, object->height + 1);
    slice->operands[0] = std::move(object);
    if (slice->height > kMaxHeight) return Bad("nested too deeply");
    return slice;
  }
  if (keys.size() == 1) return Join(E::kItem, "", std::move(object), std::move(keys[0]));
  auto tuple = Make(E::kTuple, line);
  for (auto& key : keys) {
    if (key->kind == E::kSlice) key->kind = E::kSliceKey;
    EBB_RETURN_IF_ERROR(Adopt(*tuple, std::move(key)));
  }
  return Join(E::kItem, "", std::move(object), std::move(tuple));
}

// What stands between [ and ]: an expression, or a slice, whose object is still missing.
ExpressionParser::Result ExpressionParser::ParseKey() {
  auto slice = Make(E::kSlice, now().line);
  EBB_RETURN_IF_ERROR(Adopt(*slice, nullptr));
  ExpressionPtr part;
  if (!IsOperator(":")) {
    EBB_ASSIGN_OR_RETURN(part, ParseExpression());
    if (!IsOperator(":")) return part;
  }
  EBB_RETURN_IF_ERROR(Adopt(*slice, std::move(part)));
  Take();
  for (int i = 0; i < 2; ++i) {
    if (i == 1 && !TakeOperator(":")) {
      EBB_RETURN_IF_ERROR(Adopt(*slice, nullptr));
      break;
    }
    part = nullptr;
    if (!IsOperator(":") && !IsOperator("]") && !IsOperator(",")) {
      EBB_ASSIGN_OR_RETURN(part, ParseExpression());
    }
    EBB_RETURN_IF_ERROR(Adopt(*slice, std::move(part)));
  }
  return slice;
}

absl::Status ExpressionParser::ParseArguments(Expression& call) {
  EBB_RETURN_IF_ERROR(Expect("("));
  for (bool first = true; !IsOperator(")"); first = false) {
    if (!first) EBB_RETURN_IF_ERROR(Expect(","));
    if (IsOperator(")")) break;
    EBB_RETURN_IF_ERROR(ParseArgument(call));
  }
  return Expect(")");
}

absl::Status ExpressionParser::ParseArgument(Expression& call) {
  const auto grown = [&](const ExpressionPtr& part) {
    call.height = std::max(call.height, part->height + 1);
    return call.height > kMaxHeight ? Bad("nested too deeply") : absl::OkStatus();
  };
  const absl::Status invalid = Bad("invalid syntax for function call expression");
  if (IsOperator("*") || IsOperator("**")) {
    const bool named = Take().text == "**";
    if (call.more_named || (!named && call.more_positional)) return invalid;
    ExpressionPtr& more = named ? call.more_named : call.more_positional;
    EBB_ASSIGN_OR_RETURN(more, ParseExpression());
    return grown(more);
  }
  if (now().kind == Kind::kName && next().kind == Kind::kOperator && next().text == "=") {
    if (call.more_named) return invalid;
    const std::string name = Take().text;
    for (const auto& [known, value] : call.named) {
      if (known == name) return Bad(absl::StrCat("the argument '", name, "' is given twice"));
    }
    Take();
    EBB_ASSIGN_OR_RETURN(auto value, ParseExpression());
    EBB_RETURN_IF_ERROR(grown(value));
    call.named.emplace_back(name, std::move(value));
    return absl::OkStatus();
  }
  if (call.more_positional || call.more_named || !call.named.empty()) return invalid;
  EBB_ASSIGN_OR_RETURN(auto value, ParseExpression());
  return Adopt(call, std::move(value));
}

ExpressionParser::Result ExpressionParser::ParseFilters(ExpressionPtr input, bool first) {
  while (first || IsOperator("|")) {
    if (!first) Take();
    first = false;
    auto filter = Make(E::kFilter, now().line);
    EBB_ASSIGN_OR_RETURN(filter->name, ExpectName());
    while (TakeOperator(".")) {
      EBB_ASSIGN_OR_RETURN(const std::string part, ExpectName());
      absl::StrAppend(&filter->name, ".", part);
    }
    EBB_RETURN_IF_ERROR(Adopt(*filter, std::move(input)));
    if (IsOperator("(")) EBB_RETURN_IF_ERROR(ParseArguments(*filter));
    input = std::move(filter);
  }
  return input;
}

ExpressionParser::Result ExpressionParser::ParseTest(ExpressionPtr value) {
  const uint32_t line = Take().line;
  const bool negated = TakeName("not");
  auto test = Make(E::kTest, line);
  EBB_ASSIGN_OR_RETURN(test->name, ExpectName());
  while (TakeOperator(".")) {
    EBB_ASSIGN_OR_RETURN(const std::string part, ExpectName());
    absl::StrAppend(&test->name, ".", part);
  }
  EBB_RETURN_IF_ERROR(Adopt(*test, std::move(value)));
  const Kind kind = now().kind;
  const bool literal = kind == Kind::kName || kind == Kind::kString || kind == Kind::kInteger || kind == Kind::kFloat ||
                       IsOperator("[") || IsOperator("{");
  if (IsOperator("(")) {
    EBB_RETURN_IF_ERROR(ParseArguments(*test));
  } else if (literal && !IsName("else") && !IsName("or") && !IsName("and")) {
    if (IsName("is")) return Bad("tests cannot be chained with `is`");
    EBB_ASSIGN_OR_RETURN(auto argument, ParsePrimary(false));
    EBB_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    EBB_RETURN_IF_ERROR(Adopt(*test, std::move(argument)));
  }
  if (!negated) return test;
  auto outer = Make(E::kNot, line);
  EBB_RETURN_IF_ERROR(Adopt(*outer, std::move(test)));
  return outer;
}

}  // namespace ebbinghaus::jinja
