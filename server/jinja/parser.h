// From lexemes to expressions and statements, as jinja2's parser reads them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jinja/lexer.h"
#include "server/jinja/syntax.h"

namespace ebbinghaus::jinja {

// The part that reads expressions. One thread.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Lexeme> lexemes) : lexemes_(std::move(lexemes)) {}

 protected:
  using Result = absl::StatusOr<ExpressionPtr>;
  using Kind = Lexeme::Kind;

  const Lexeme& now() const { return lexemes_[at_]; }
  const Lexeme& next() const { return lexemes_[at_ + 1 < lexemes_.size() ? at_ + 1 : at_]; }
  const Lexeme& Take() { return lexemes_[at_ + 1 < lexemes_.size() ? at_++ : at_]; }
  bool IsOperator(std::string_view text) const { return now().kind == Kind::kOperator && now().text == text; }
  bool IsName(std::string_view text) const { return now().kind == Kind::kName && now().text == text; }
  bool TakeOperator(std::string_view text) { return IsOperator(text) && (Take(), true); }
  bool TakeName(std::string_view text) { return IsName(text) && (Take(), true); }
  absl::Status Bad(std::string_view what) const { return TemplateError(now().line, what); }
  absl::Status Unexpected(std::string_view wanted) const;
  absl::Status Expect(std::string_view op);
  absl::StatusOr<std::string> ExpectName();

  // An expression; with commas behind it, or empty in brackets, a tuple.
  Result ParseTuple(bool with_condition = true, bool in_brackets = false);
  Result ParseExpression();
  Result ParseOr();
  // name, name.attribute (`with_namespace`) or a tuple of such.
  Result ParseTarget(bool with_tuple, bool with_namespace);
  // Filters behind `input` (null: what the block wrote); `first`: the first has no "|" before it.
  Result ParseFilters(ExpressionPtr input, bool first);

  // Counts the nesting of what recurses, so that no template exhausts the stack.
  class Deeper {
   public:
    explicit Deeper(int* depth) : depth_(depth) { ++*depth_; }
    ~Deeper() { --*depth_; }

   private:
    int* depth_;
  };
  bool TooDeep() const { return depth_ > kMaxDepth; }
  int depth_ = 0;

 private:
  static constexpr int kMaxDepth = 80;
  static constexpr int kMaxHeight = 250;  // chains such as a.b.c nest without the parser recursing

  ExpressionPtr Make(Expression::Kind kind, uint32_t line, std::string name = {}) const;
  // The expression with an operand more. Errors: nested too deeply.
  absl::Status Adopt(Expression& parent, ExpressionPtr child) const;
  Result Join(Expression::Kind kind, std::string name, ExpressionPtr a, ExpressionPtr b) const;
  Result ParseAnd();
  Result ParseNot();
  Result ParseComparison();
  Result ParseSum();
  Result ParseConcat();
  Result ParseProduct();
  Result ParsePower();
  Result ParseUnary(bool with_filter);
  Result ParsePrimary(bool with_namespace);
  Result ParseNumber();
  Result ParseNamed(bool with_namespace);
  Result ParseList();
  Result ParseDict();
  Result ParseCall(ExpressionPtr callee);
  Result ParsePostfix(ExpressionPtr value);
  Result ParseBehind(ExpressionPtr value);
  Result ParseSubscript(ExpressionPtr object);
  Result ParseKey();
  Result ParseTest(ExpressionPtr value);
  absl::Status ParseArguments(Expression& call);
  absl::Status ParseArgument(Expression& call);
  bool AtTupleEnd() const;

  std::vector<Lexeme> lexemes_;
  size_t at_ = 0;
};

}  // namespace ebbinghaus::jinja
