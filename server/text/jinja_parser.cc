#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/text/jinja_lexer.h"
#include "server/text/jinja_syntax.h"

namespace ebbinghaus::text::jinja {
namespace {

using Kind = Lexeme::Kind;
using E = Expression::Kind;
using S = Statement::Kind;

constexpr int kMaxDepth = 100;
constexpr size_t kMaxSource = 1 << 20;
constexpr int kMaxNodesPerTag = 2000;  // chains such as a.b.c nest without the parser recursing

class Parser {
 public:
  explicit Parser(std::vector<Lexeme> lexemes) : lexemes_(std::move(lexemes)) {}

  absl::StatusOr<Block> Run() {
    EBB_ASSIGN_OR_RETURN(Block block, ParseBlock({}));
    return block;
  }

 private:
  using Result = absl::StatusOr<std::unique_ptr<Expression>>;
  using StatementResult = absl::StatusOr<std::unique_ptr<Statement>>;

  const Lexeme& now() const { return lexemes_[at_]; }
  Lexeme Take() { return lexemes_[at_ + 1 < lexemes_.size() ? at_++ : at_]; }
  bool IsOperator(std::string_view text) const { return now().kind == Kind::kOperator && now().text == text; }
  bool IsName(std::string_view text) const { return now().kind == Kind::kName && now().text == text; }
  bool TakeOperator(std::string_view text) { return IsOperator(text) && (Take(), true); }
  bool TakeName(std::string_view text) { return IsName(text) && (Take(), true); }

  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat("chat template, line ", now().line, ": ", what));
  }
  absl::Status Unexpected(const std::string& wanted) const {
    return Bad(absl::StrCat("expected ", wanted, now().text.empty() ? "" : absl::StrCat(" before '", now().text.substr(0, 40), "'")));
  }
  absl::Status Expect(std::string_view text) {
    return TakeOperator(text) ? absl::OkStatus() : Unexpected(absl::StrCat("'", std::string(text), "'"));
  }
  absl::StatusOr<std::string> ExpectName() {
    if (now().kind != Kind::kName) return Unexpected("a name");
    return Take().text;
  }
  absl::Status ExpectTagEnd() {
    if (now().kind != Kind::kTagEnd) return Unexpected("the end of the tag");
    Take();
    return absl::OkStatus();
  }

  // Counts the nesting of whatever recurses, so that a hostile template cannot exhaust the stack.
  class Depth {
   public:
    explicit Depth(int* depth) : depth_(depth) { ++*depth_; }
    ~Depth() { --*depth_; }

   private:
    int* depth_;
  };

  std::unique_ptr<Expression> Make(E kind, std::string name = {}) {
    ++nodes_;
    auto e = std::make_unique<Expression>();
    e->kind = kind;
    e->line = now().line;
    e->name = std::move(name);
    return e;
  }

  // ---- Statements ----

  // Up to, not including, the tag whose name is in `ends`; {} = to the end of the template.
  absl::StatusOr<Block> ParseBlock(std::vector<std::string_view> ends) {
    const Depth depth(&depth_);
    if (depth_ > kMaxDepth) return Bad("nested too deeply");
    Block block;
    while (now().kind != Kind::kEnd) {
      if (now().kind == Kind::kTagBegin) {
        const std::string& tag = lexemes_[at_ + 1].text;
        if (std::find(ends.begin(), ends.end(), tag) != ends.end()) return block;
        // {% generation %} marks what an assistant says; the text is as without it.
        if (tag == "generation" || tag == "endgeneration") {
          Take(), Take();
          EBB_RETURN_IF_ERROR(ExpectTagEnd());
          continue;
        }
      }
      EBB_ASSIGN_OR_RETURN(auto statement, ParseStatement());
      block.push_back(std::move(statement));
    }
    if (!ends.empty()) return Bad(absl::StrCat("{% ", std::string(ends.back()), " %} is missing"));
    return block;
  }

  StatementResult ParseStatement() {
    auto statement = std::make_unique<Statement>();
    statement->line = now().line;
    nodes_ = 0;
    if (now().kind == Kind::kText) {
      statement->text = Take().text;
      return statement;
    }
    if (now().kind == Kind::kOutputBegin) {
      Take();
      statement->kind = S::kOutput;
      EBB_ASSIGN_OR_RETURN(statement->value, ParseExpression());
      if (now().kind != Kind::kOutputEnd) return Unexpected("'}}'");
      Take();
      return statement;
    }
    Take();
    EBB_ASSIGN_OR_RETURN(const std::string tag, ExpectName());
    if (tag == "if") return ParseIf(std::move(statement));
    if (tag == "for") return ParseFor(std::move(statement));
    if (tag == "set") return ParseSet(std::move(statement));
    if (tag == "macro") return ParseMacro(std::move(statement));
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) return Bad(absl::StrCat("{% ", tag, " %} outside a loop"));
      statement->kind = tag == "break" ? S::kBreak : S::kContinue;
      EBB_RETURN_IF_ERROR(ExpectTagEnd());
      return statement;
    }
    return Bad(absl::StrCat("the tag {% ", tag.substr(0, 40), " %} is not supported here"));
  }

  // Past "{% name %}". Requires: it is next.
  absl::Status SkipTag() {
    Take(), Take();
    return ExpectTagEnd();
  }

  StatementResult ParseIf(std::unique_ptr<Statement> statement) {
    statement->kind = S::kIf;
    while (true) {
      EBB_ASSIGN_OR_RETURN(ExpressionPtr test, ParseExpression());
      EBB_RETURN_IF_ERROR(ExpectTagEnd());
      EBB_ASSIGN_OR_RETURN(Block body, ParseBlock({"elif", "else", "endif"}));
      statement->branches.push_back({std::move(test), std::move(body)});
      const std::string tag = lexemes_[at_ + 1].text;
      if (tag == "elif") {
        Take(), Take();
        continue;
      }
      if (tag == "else") {
        EBB_RETURN_IF_ERROR(SkipTag());
        EBB_ASSIGN_OR_RETURN(statement->otherwise, ParseBlock({"endif"}));
      }
      EBB_RETURN_IF_ERROR(SkipTag());
      return statement;
    }
  }

  absl::Status ParseTargets(std::vector<std::string>& names) {
    const bool bracket = TakeOperator("(");
    do {
      EBB_ASSIGN_OR_RETURN(std::string name, ExpectName());
      if (TakeOperator(".")) {
        EBB_ASSIGN_OR_RETURN(const std::string attribute, ExpectName());
        name += "." + attribute;
      }
      names.push_back(std::move(name));
    } while (TakeOperator(","));
    return bracket ? Expect(")") : absl::OkStatus();
  }

  StatementResult ParseFor(std::unique_ptr<Statement> statement) {
    statement->kind = S::kFor;
    EBB_RETURN_IF_ERROR(ParseTargets(statement->names));
    if (!TakeName("in")) return Unexpected("'in'");
    EBB_ASSIGN_OR_RETURN(statement->value, ParseOr());  // an `if` behind it filters
    if (TakeName("if")) {
      EBB_ASSIGN_OR_RETURN(statement->filter, ParseExpression());
    }
    if (IsName("recursive")) return Bad("recursive loops are not supported");
    EBB_RETURN_IF_ERROR(ExpectTagEnd());
    ++loops_;
    EBB_ASSIGN_OR_RETURN(statement->body, ParseBlock({"else", "endfor"}));
    --loops_;
    if (lexemes_[at_ + 1].text == "else") {
      EBB_RETURN_IF_ERROR(SkipTag());
      EBB_ASSIGN_OR_RETURN(statement->otherwise, ParseBlock({"endfor"}));
    }
    EBB_RETURN_IF_ERROR(SkipTag());
    return statement;
  }

  StatementResult ParseSet(std::unique_ptr<Statement> statement) {
    EBB_RETURN_IF_ERROR(ParseTargets(statement->names));
    if (TakeOperator("=")) {
      statement->kind = S::kSet;
      EBB_ASSIGN_OR_RETURN(statement->value, ParseTuple());
      EBB_RETURN_IF_ERROR(ExpectTagEnd());
      return statement;
    }
    statement->kind = S::kSetBlock;
    if (statement->names.size() != 1) return Unexpected("'='");
    EBB_RETURN_IF_ERROR(ExpectTagEnd());
    EBB_ASSIGN_OR_RETURN(statement->body, ParseBlock({"endset"}));
    EBB_RETURN_IF_ERROR(SkipTag());
    return statement;
  }

  StatementResult ParseMacro(std::unique_ptr<Statement> statement) {
    statement->kind = S::kMacro;
    auto macro = std::make_unique<Macro>();
    EBB_ASSIGN_OR_RETURN(macro->name, ExpectName());
    EBB_RETURN_IF_ERROR(Expect("("));
    while (!TakeOperator(")")) {
      if (!macro->parameters.empty()) EBB_RETURN_IF_ERROR(Expect(","));
      EBB_ASSIGN_OR_RETURN(std::string name, ExpectName());
      ExpressionPtr fallback;
      if (TakeOperator("=")) {
        EBB_ASSIGN_OR_RETURN(fallback, ParseExpression());
      }
      macro->parameters.push_back({std::move(name), std::move(fallback)});
    }
    EBB_RETURN_IF_ERROR(ExpectTagEnd());
    const int loops = std::exchange(loops_, 0);
    EBB_ASSIGN_OR_RETURN(macro->body, ParseBlock({"endmacro"}));
    loops_ = loops;
    EBB_RETURN_IF_ERROR(SkipTag());
    statement->macro = std::move(macro);
    return statement;
  }

  // ---- Expressions, from the loosest binding to the tightest ----

  Result ParseTuple() {  // a, b without brackets is a list
    EBB_ASSIGN_OR_RETURN(auto first, ParseExpression());
    if (!IsOperator(",")) return first;
    auto tuple = Make(E::kList);
    tuple->arguments.push_back(std::move(first));
    while (TakeOperator(",") && now().kind != Kind::kTagEnd) {
      EBB_ASSIGN_OR_RETURN(auto next, ParseExpression());
      tuple->arguments.push_back(std::move(next));
    }
    return tuple;
  }

  Result ParseExpression() {
    const Depth depth(&depth_);
    if (depth_ > kMaxDepth) return Bad("nested too deeply");
    EBB_ASSIGN_OR_RETURN(auto value, ParseOr());
    while (TakeName("if")) {
      auto condition = Make(E::kCondition);
      EBB_ASSIGN_OR_RETURN(auto test, ParseOr());
      std::unique_ptr<Expression> otherwise;
      if (TakeName("else")) {
        EBB_ASSIGN_OR_RETURN(otherwise, ParseExpression());
      }
      condition->arguments.push_back(std::move(value));
      condition->arguments.push_back(std::move(test));
      condition->arguments.push_back(std::move(otherwise));
      value = std::move(condition);
    }
    return value;
  }

  std::unique_ptr<Expression> Join(E kind, std::string name, std::unique_ptr<Expression> a, std::unique_ptr<Expression> b) {
    auto joined = Make(kind, std::move(name));
    joined->arguments.push_back(std::move(a));
    joined->arguments.push_back(std::move(b));
    return joined;
  }

  Result ParseOr() {
    EBB_ASSIGN_OR_RETURN(auto value, ParseAnd());
    while (TakeName("or")) {
      EBB_ASSIGN_OR_RETURN(auto right, ParseAnd());
      value = Join(E::kOr, "", std::move(value), std::move(right));
    }
    return value;
  }

  Result ParseAnd() {
    EBB_ASSIGN_OR_RETURN(auto value, ParseNot());
    while (TakeName("and")) {
      EBB_ASSIGN_OR_RETURN(auto right, ParseNot());
      value = Join(E::kAnd, "", std::move(value), std::move(right));
    }
    return value;
  }

  Result ParseNot() {
    const Depth depth(&depth_);
    if (depth_ > kMaxDepth) return Bad("nested too deeply");
    if (!TakeName("not")) return ParseComparison();
    auto negated = Make(E::kNot);
    EBB_ASSIGN_OR_RETURN(auto value, ParseNot());
    negated->arguments.push_back(std::move(value));
    return negated;
  }

  std::optional<std::string> TakeComparison() {
    for (const char* op : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (TakeOperator(op)) return op;
    }
    if (TakeName("in")) return "in";
    if (IsName("not") && lexemes_[at_ + 1].kind == Kind::kName && lexemes_[at_ + 1].text == "in") {
      Take(), Take();
      return "not in";
    }
    return std::nullopt;
  }

  Result ParseComparison() {
    EBB_ASSIGN_OR_RETURN(auto value, ParseSum());
    const std::optional<std::string> op = TakeComparison();
    if (!op) return value;
    EBB_ASSIGN_OR_RETURN(auto right, ParseSum());
    value = Join(E::kBinary, *op, std::move(value), std::move(right));
    if (TakeComparison()) return Bad("chained comparisons are not supported");
    return value;
  }

  Result ParseSum() {
    EBB_ASSIGN_OR_RETURN(auto value, ParseConcat());
    while (IsOperator("+") || IsOperator("-")) {
      const std::string op = Take().text;
      EBB_ASSIGN_OR_RETURN(auto right, ParseConcat());
      value = Join(E::kBinary, op, std::move(value), std::move(right));
    }
    return value;
  }

  Result ParseConcat() {
    EBB_ASSIGN_OR_RETURN(auto value, ParseProduct());
    while (TakeOperator("~")) {
      EBB_ASSIGN_OR_RETURN(auto right, ParseProduct());
      value = Join(E::kBinary, "~", std::move(value), std::move(right));
    }
    return value;
  }

  Result ParseProduct() {
    EBB_ASSIGN_OR_RETURN(auto value, ParseUnary());
    while (IsOperator("*") || IsOperator("/") || IsOperator("//") || IsOperator("%")) {
      const std::string op = Take().text;
      EBB_ASSIGN_OR_RETURN(auto right, ParseUnary());
      value = Join(E::kBinary, op, std::move(value), std::move(right));
    }
    if (IsOperator("**")) return Bad("'**' is not supported");
    return value;
  }

  Result ParseUnary() {
    const Depth depth(&depth_);
    if (depth_ > kMaxDepth || nodes_ > kMaxNodesPerTag) return Bad("nested too deeply");
    if (!IsOperator("-") && !IsOperator("+")) {
      EBB_ASSIGN_OR_RETURN(auto value, ParsePrimary());
      EBB_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
      return ParseFilters(std::move(value));
    }
    auto unary = Make(E::kUnary, Take().text);
    EBB_ASSIGN_OR_RETURN(auto operand, ParsePrimaryWithPostfix());
    unary->arguments.push_back(std::move(operand));
    return ParseFilters(std::move(unary));
  }

  Result ParsePrimaryWithPostfix() {
    EBB_ASSIGN_OR_RETURN(auto value, ParsePrimary());
    return ParsePostfix(std::move(value));
  }

  Result ParsePrimary() {
    const Lexeme lexeme = now();
    auto literal = Make(E::kLiteral);
    switch (lexeme.kind) {
      case Kind::kString: {
        std::string text;
        while (now().kind == Kind::kString) text += Take().text;  // neighbours join, as in Python
        literal->literal = Value::Of(std::move(text));
        return literal;
      }
      case Kind::kInteger:
        Take();
        literal->literal = Value(static_cast<int64_t>(std::strtoll(lexeme.text.c_str(), nullptr, 10)));
        return literal;
      case Kind::kFloat:
        Take();
        literal->literal = Value(std::strtod(lexeme.text.c_str(), nullptr));
        return literal;
      case Kind::kName:
        Take();
        if (lexeme.text == "true" || lexeme.text == "True") literal->literal = Value(true);
        else if (lexeme.text == "false" || lexeme.text == "False") literal->literal = Value(false);
        else if (lexeme.text == "none" || lexeme.text == "None") literal->literal = Value(None{});
        else return Make(E::kName, lexeme.text);
        return literal;
      default:
        break;
    }
    if (TakeOperator("(")) return ParseBrackets();
    if (TakeOperator("[")) {
      auto list = Make(E::kList);
      EBB_RETURN_IF_ERROR(ParseItems(*list, "]"));
      return list;
    }
    if (TakeOperator("{")) return ParseDict();
    return Unexpected("an expression");
  }

  // (a) is a; (a, b) and () are tuples.
  Result ParseBrackets() {
    auto tuple = Make(E::kList);
    if (TakeOperator(")")) return tuple;
    EBB_ASSIGN_OR_RETURN(auto first, ParseExpression());
    if (TakeOperator(")")) return first;
    EBB_RETURN_IF_ERROR(Expect(","));
    tuple->arguments.push_back(std::move(first));
    EBB_RETURN_IF_ERROR(ParseItems(*tuple, ")"));
    return tuple;
  }

  absl::Status ParseItems(Expression& list, std::string_view close) {
    while (!TakeOperator(close)) {
      EBB_ASSIGN_OR_RETURN(auto item, ParseExpression());
      list.arguments.push_back(std::move(item));
      if (!IsOperator(close)) EBB_RETURN_IF_ERROR(Expect(","));
    }
    return absl::OkStatus();
  }

  Result ParseDict() {
    auto dict = Make(E::kDict);
    while (!TakeOperator("}")) {
      for (const char* separator : {":", ""}) {
        EBB_ASSIGN_OR_RETURN(auto part, ParseExpression());
        dict->arguments.push_back(std::move(part));
        if (*separator) EBB_RETURN_IF_ERROR(Expect(separator));
      }
      if (!IsOperator("}")) EBB_RETURN_IF_ERROR(Expect(","));
    }
    return dict;
  }

  Result ParsePostfix(std::unique_ptr<Expression> value) {
    while (true) {
      if (nodes_ > kMaxNodesPerTag) return Bad("nested too deeply");
      if (TakeOperator(".")) {
        EBB_ASSIGN_OR_RETURN(std::string name, ExpectName());
        auto attribute = Make(E::kAttribute, std::move(name));
        attribute->arguments.push_back(std::move(value));
        value = std::move(attribute);
      } else if (TakeOperator("[")) {
        EBB_ASSIGN_OR_RETURN(value, ParseSubscript(std::move(value)));
      } else if (TakeOperator("(")) {
        auto call = Make(E::kCall);
        call->arguments.push_back(std::move(value));
        EBB_RETURN_IF_ERROR(ParseArguments(*call));
        value = std::move(call);
      } else {
        return value;
      }
    }
  }

  Result ParseSubscript(std::unique_ptr<Expression> object) {
    std::unique_ptr<Expression> parts[3];
    bool slice = false;
    for (int i = 0; i < 3; ++i) {
      if (!IsOperator(":") && !IsOperator("]")) {
        EBB_ASSIGN_OR_RETURN(parts[i], ParseExpression());
      }
      if (!TakeOperator(":")) break;
      slice = true;
    }
    EBB_RETURN_IF_ERROR(Expect("]"));
    auto subscript = Make(slice ? E::kSlice : E::kItem);
    subscript->arguments.push_back(std::move(object));
    if (!slice && parts[0] == nullptr) return Bad("an empty subscript");
    for (int i = 0; i < (slice ? 3 : 1); ++i) subscript->arguments.push_back(std::move(parts[i]));
    return subscript;
  }

  // Positional and keyword arguments up to ")".
  absl::Status ParseArguments(Expression& call) {
    while (!TakeOperator(")")) {
      const bool keyword = now().kind == Kind::kName && lexemes_[at_ + 1].kind == Kind::kOperator && lexemes_[at_ + 1].text == "=";
      std::string name;
      if (keyword) {
        name = Take().text;
        Take();
      }
      EBB_ASSIGN_OR_RETURN(auto value, ParseExpression());
      if (keyword) call.named.push_back({std::move(name), std::move(value)});
      else call.arguments.push_back(std::move(value));
      if (!IsOperator(")")) EBB_RETURN_IF_ERROR(Expect(","));
    }
    return absl::OkStatus();
  }

  Result ParseFilters(std::unique_ptr<Expression> value) {
    while (true) {
      if (nodes_ > kMaxNodesPerTag) return Bad("nested too deeply");
      if (TakeOperator("|")) {
        EBB_ASSIGN_OR_RETURN(const std::string name, ExpectName());
        if (!IsFilter(name)) return Bad(absl::StrCat("the filter '", name.substr(0, 40), "' is not supported"));
        auto filter = Make(E::kFilter, name);
        filter->arguments.push_back(std::move(value));
        if (TakeOperator("(")) EBB_RETURN_IF_ERROR(ParseArguments(*filter));
        EBB_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(filter)));
      } else if (TakeName("is")) {
        EBB_ASSIGN_OR_RETURN(value, ParseTest(std::move(value)));
      } else {
        return value;
      }
    }
  }

  Result ParseTest(std::unique_ptr<Expression> value) {
    const bool negated = TakeName("not");
    EBB_ASSIGN_OR_RETURN(const std::string name, ExpectName());
    if (!IsTest(name)) return Bad(absl::StrCat("the test '", name.substr(0, 40), "' is not supported"));
    auto test = Make(E::kTest, name);
    test->arguments.push_back(std::move(value));
    if (TakeOperator("(")) {
      EBB_RETURN_IF_ERROR(ParseArguments(*test));
    } else if (StartsOperand()) {
      EBB_ASSIGN_OR_RETURN(auto argument, ParsePrimaryWithPostfix());
      test->arguments.push_back(std::move(argument));
    }
    if (!negated) return test;
    auto inverse = Make(E::kNot);
    inverse->arguments.push_back(std::move(test));
    return inverse;
  }

  // Whether a test's argument follows without brackets.
  bool StartsOperand() const {
    static constexpr std::string_view kWords[] = {"and", "or", "not", "if", "else", "in", "is"};
    if (now().kind == Kind::kName) return std::find(std::begin(kWords), std::end(kWords), now().text) == std::end(kWords);
    return now().kind == Kind::kString || now().kind == Kind::kInteger || now().kind == Kind::kFloat || IsOperator("[") || IsOperator("{");
  }

  const std::vector<Lexeme> lexemes_;
  size_t at_ = 0;
  int depth_ = 0;
  int nodes_ = 0;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Block> ParseTemplate(std::string_view source) {
  if (source.size() > kMaxSource) return absl::InvalidArgumentError(absl::StrCat("chat template: larger than ", kMaxSource, " bytes"));
  EBB_ASSIGN_OR_RETURN(std::vector<Lexeme> lexemes, Lex(source));
  return Parser(std::move(lexemes)).Run();
}

}  // namespace ebbinghaus::text::jinja
