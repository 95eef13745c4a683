#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/parser.h"

namespace ebbinghaus::jinja {
namespace {

using S = Statement::Kind;
using E = Expression::Kind;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  absl::StatusOr<Block> Run() { return ParseBlock({}); }

 private:
  using StatementResult = absl::StatusOr<std::unique_ptr<Statement>>;
  using Words = std::vector<std::string_view>;

  absl::Status ExpectTagEnd() {
    if (now().kind != Kind::kTagEnd) return Unexpected("the end of the tag");
    Take();
    return absl::OkStatus();
  }

  // Up to the tag whose name is one of `ends`, which is next then, behind its "{%"; {}: to the end
  // of the template.
  absl::StatusOr<Block> ParseBlock(const Words& ends) {
    const Deeper deeper(&depth_);
    if (TooDeep()) return Bad("nested too deeply");
    Block block;
    while (now().kind != Kind::kEnd) {
      auto statement = std::make_unique<Statement>();
      statement->line = now().line;
      if (now().kind == Kind::kText) {
        statement->text = Text(Take().text);
      } else if (now().kind == Kind::kOutputBegin) {
        Take();
        statement->kind = S::kOutput;
        EBB_ASSIGN_OR_RETURN(auto value, ParseTuple());
        statement->values.push_back(std::move(value));
        if (now().kind != Kind::kOutputEnd) return Unexpected("'}}'");
        Take();
      } else {
        Take();
        if (std::any_of(ends.begin(), ends.end(), [&](std::string_view end) { return IsName(end); })) return block;
        EBB_ASSIGN_OR_RETURN(statement, ParseStatement(std::move(statement)));
        EBB_RETURN_IF_ERROR(ExpectTagEnd());
      }
      block.push_back(std::move(statement));
    }
    if (!ends.empty()) return Bad(absl::StrCat("{% ", std::string(ends.back()), " %} is missing"));
    return block;
  }

  // A body behind the rest of its tag, up to the name of its end tag.
  absl::StatusOr<Block> ParseBody(const Words& ends) {
    TakeOperator(":");  // Python's habit
    EBB_RETURN_IF_ERROR(ExpectTagEnd());
    return ParseBlock(ends);
  }
  absl::Status ParseBodyInto(Block& block, std::string_view end) {
    EBB_ASSIGN_OR_RETURN(block, ParseBody({end}));
    Take();
    return absl::OkStatus();
  }

  // A function of its own in jinja2: no loop outside can be left from in it.
  absl::Status ParseMacroBody(Block& block, std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    EBB_RETURN_IF_ERROR(ParseBodyInto(block, end));
    loops_ = loops;
    return absl::OkStatus();
  }

  StatementResult ParseStatement(std::unique_ptr<Statement> statement) {
    EBB_ASSIGN_OR_RETURN(const std::string tag, ExpectName());
    if (tag == "if") return ParseIf(std::move(statement));
    if (tag == "for") return ParseFor(std::move(statement));
    if (tag == "set") return ParseSet(std::move(statement));
    if (tag == "with") return ParseWith(std::move(statement));
    if (tag == "macro") return ParseMacro(std::move(statement));
    if (tag == "call") return ParseCall(std::move(statement));
    if (tag == "print") return ParsePrint(std::move(statement));
    if (tag == "block") return ParseNamedBlock(std::move(statement));
    if (tag == "filter") {
      statement->kind = S::kFilter;
      EBB_ASSIGN_OR_RETURN(statement->value, ParseFilters(nullptr, /*first=*/true));
      EBB_RETURN_IF_ERROR(ParseBodyInto(statement->body, "endfilter"));
      return statement;
    }
    if (tag == "generation") {
      statement->kind = S::kGeneration;
      statement->macro = std::make_unique<MacroSyntax>();
      statement->macro->has_name = false;
      EBB_RETURN_IF_ERROR(ParseMacroBody(statement->macro->body, "endgeneration"));
      return statement;
    }
    if (tag == "autoescape") {
      statement->kind = S::kScope;
      EBB_ASSIGN_OR_RETURN(statement->value, ParseExpression());
      EBB_RETURN_IF_ERROR(ParseBodyInto(statement->body, "endautoescape"));
      return statement;
    }
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) return Bad(absl::StrCat("{% ", tag, " %} outside a loop"));
      statement->kind = tag == "break" ? S::kBreak : S::kContinue;
      return statement;
    }
    if (tag == "include" || tag == "import" || tag == "from" || tag == "extends") {
      statement->kind = S::kUnsupported;
      statement->text = Text(absl::StrCat("the tag {% ", tag, " %} is not supported"));
      while (now().kind != Kind::kTagEnd && now().kind != Kind::kEnd) Take();
      return statement;
    }
    return Bad(absl::StrCat("the tag {% ", tag.substr(0, 40), " %} is not known here"));
  }

  StatementResult ParseIf(std::unique_ptr<Statement> statement) {
    statement->kind = S::kIf;
    while (true) {
      EBB_ASSIGN_OR_RETURN(ExpressionPtr test, ParseTuple(/*with_condition=*/false));
      EBB_ASSIGN_OR_RETURN(Block body, ParseBody({"elif", "else", "endif"}));
      statement->branches.emplace_back(std::move(test), std::move(body));
      const std::string tag = Take().text;
      if (tag == "elif") continue;
      if (tag == "else") EBB_RETURN_IF_ERROR(ParseBodyInto(statement->otherwise, "endif"));
      return statement;
    }
  }

  StatementResult ParseFor(std::unique_ptr<Statement> statement) {
    statement->kind = S::kFor;
    EBB_ASSIGN_OR_RETURN(statement->target, ParseTarget(true, false));
    if (!TakeName("in")) return Unexpected("'in'");
    EBB_ASSIGN_OR_RETURN(statement->value, ParseTuple(/*with_condition=*/false));
    if (TakeName("if")) {
      EBB_ASSIGN_OR_RETURN(statement->condition, ParseExpression());
    }
    statement->recursive = TakeName("recursive");
    const int loops = statement->recursive ? std::exchange(loops_, 0) : loops_;
    ++loops_;
    EBB_ASSIGN_OR_RETURN(statement->body, ParseBody({"else", "endfor"}));
    --loops_;
    if (Take().text == "else") EBB_RETURN_IF_ERROR(ParseBodyInto(statement->otherwise, "endfor"));
    loops_ = loops;
    return statement;
  }

  StatementResult ParseSet(std::unique_ptr<Statement> statement) {
    EBB_ASSIGN_OR_RETURN(statement->target, ParseTarget(true, true));
    if (TakeOperator("=")) {
      statement->kind = S::kSet;
      EBB_ASSIGN_OR_RETURN(statement->value, ParseTuple());
      return statement;
    }
    statement->kind = S::kSetBlock;
    if (IsOperator("|")) {
      EBB_ASSIGN_OR_RETURN(statement->value, ParseFilters(nullptr, false));
    }
    EBB_RETURN_IF_ERROR(ParseBodyInto(statement->body, "endset"));
    return statement;
  }

  StatementResult ParseWith(std::unique_ptr<Statement> statement) {
    statement->kind = S::kWith;
    while (now().kind != Kind::kTagEnd && !IsOperator(":")) {
      if (!statement->targets.empty()) EBB_RETURN_IF_ERROR(Expect(","));
      // Without commas: `a, b = ...` would be two targets, of which the first has no value.
      EBB_ASSIGN_OR_RETURN(auto target, ParseTarget(true, false));
      EBB_RETURN_IF_ERROR(Expect("="));
      EBB_ASSIGN_OR_RETURN(auto value, ParseExpression());
      statement->targets.push_back(std::move(target));
      statement->values.push_back(std::move(value));
    }
    EBB_RETURN_IF_ERROR(ParseBodyInto(statement->body, "endwith"));
    return statement;
  }

  absl::Status ParseSignature(MacroSyntax& macro) {
    EBB_RETURN_IF_ERROR(Expect("("));
    bool defaults = false;
    while (!IsOperator(")")) {
      if (!macro.parameters.empty()) EBB_RETURN_IF_ERROR(Expect(","));
      Parameter parameter;
      EBB_ASSIGN_OR_RETURN(parameter.name, ExpectAssignableName());
      if (TakeOperator("=")) {
        EBB_ASSIGN_OR_RETURN(parameter.fallback, ParseExpression());
        defaults = true;
      } else if (defaults) {
        return Bad("non-default argument follows default argument");
      }
      for (const Parameter& other : macro.parameters) {
        if (other.name == parameter.name) return Bad("a parameter is named twice");
      }
      if (parameter.name == "caller") macro.explicit_caller = true;
      macro.parameters.push_back(std::move(parameter));
    }
    return Expect(")");
  }

  absl::StatusOr<std::string> ExpectAssignableName() {
    const uint32_t line = now().line;
    EBB_ASSIGN_OR_RETURN(std::string name, ExpectName());
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (name == constant) return TemplateError(line, absl::StrCat("'", name, "' cannot be assigned to"));
    }
    if (!IsIdentifier(name)) return TemplateError(line, "invalid character in identifier");
    return name;
  }

  StatementResult ParseMacro(std::unique_ptr<Statement> statement) {
    statement->kind = S::kMacro;
    statement->macro = std::make_unique<MacroSyntax>();
    EBB_ASSIGN_OR_RETURN(statement->macro->name, ExpectAssignableName());
    EBB_RETURN_IF_ERROR(ParseSignature(*statement->macro));
    EBB_RETURN_IF_ERROR(ParseMacroBody(statement->macro->body, "endmacro"));
    return statement;
  }

  StatementResult ParseCall(std::unique_ptr<Statement> statement) {
    statement->kind = S::kCall;
    statement->macro = std::make_unique<MacroSyntax>();
    statement->macro->has_name = false;
    if (IsOperator("(")) EBB_RETURN_IF_ERROR(ParseSignature(*statement->macro));
    EBB_ASSIGN_OR_RETURN(statement->value, ParseExpression());
    if (statement->value->kind != E::kCall) return TemplateError(statement->line, "{% call %} needs a call");
    EBB_RETURN_IF_ERROR(ParseMacroBody(statement->macro->body, "endcall"));
    return statement;
  }

  StatementResult ParsePrint(std::unique_ptr<Statement> statement) {
    statement->kind = S::kOutput;
    while (now().kind != Kind::kTagEnd) {
      if (!statement->values.empty()) EBB_RETURN_IF_ERROR(Expect(","));
      EBB_ASSIGN_OR_RETURN(auto value, ParseExpression());
      statement->values.push_back(std::move(value));
    }
    return statement;
  }

  // Without inheritance a block is what it holds, except that it sees no loop outside.
  StatementResult ParseNamedBlock(std::unique_ptr<Statement> statement) {
    statement->kind = S::kBlock;
    EBB_ASSIGN_OR_RETURN(const std::string name, ExpectName());
    if (std::find(blocks_.begin(), blocks_.end(), name) != blocks_.end()) {
      return Bad(absl::StrCat("the block '", name.substr(0, 40), "' is defined twice"));
    }
    blocks_.push_back(name);
    const bool scoped = TakeName("scoped"), required = TakeName("required");
    EBB_RETURN_IF_ERROR(ParseMacroBody(statement->body, "endblock"));
    TakeName(name);
    if (scoped || required) {
      statement->kind = S::kUnsupported;
      statement->body.clear();
      statement->text = Text("scoped and required blocks are not supported");
    }
    return statement;
  }

  int loops_ = 0;
  std::vector<std::string> blocks_;
};

}  // namespace

absl::StatusOr<Syntax> ParseTemplate(std::string_view source) {
  constexpr size_t kMaxSource = 1 << 20;
  if (source.size() > kMaxSource) {
    return absl::InvalidArgumentError(absl::StrCat("chat template: larger than ", kMaxSource, " bytes"));
  }
  if (!IsValidUtf8(source)) return absl::InvalidArgumentError("chat template: not valid UTF-8");
  EBB_ASSIGN_OR_RETURN(std::vector<Lexeme> lexemes, Lex(source));
  Syntax syntax;
  EBB_ASSIGN_OR_RETURN(syntax.body, Parser(std::move(lexemes)).Run());
  EBB_RETURN_IF_ERROR(Bind(syntax));
  return syntax;
}

}  // namespace ebbinghaus::jinja
