// Which scope a name belongs to. jinja2 decides that when it compiles a template, from where names
// are read and set, and its choices show: a loop's body starts each turn with the outer values, a
// macro sees what its definition's scope comes to hold. This follows its rules (Symbols, and the
// two visitors FrameNames and Resolver) one by one.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/lexer.h"
#include "server/jinja/syntax.h"

namespace ebbinghaus::jinja {
namespace {

using E = Expression::Kind;
using S = Statement::Kind;
using Action = Load::Action;

// The parts of an expression, in the order in which jinja2 walks them.
template <typename Visit>
void EachPart(const Expression& e, Visit visit) {
  if (e.kind == E::kCondition) {
    for (const int i : {1, 0, 2}) {
      if (e.operands[static_cast<size_t>(i)]) visit(*e.operands[static_cast<size_t>(i)]);
    }
    return;
  }
  for (const auto& part : e.operands) {
    if (part) visit(*part);
  }
  for (const auto& [name, part] : e.named) visit(*part);
  if (e.more_positional) visit(*e.more_positional);
  if (e.more_named) visit(*e.more_named);
}

// The names of one scope while it is looked at.
class Symbols {
 public:
  Symbols(const Symbols* parent, Frame* frame) : parent_(parent), frame_(frame), slots_(std::make_shared<Slots>()) {}

  const Symbols* parent() const { return parent_; }
  Frame* frame() const { return frame_; }

  void Load_(const std::string& name) {
    if (!Knows(name)) Define(name, Action::kResolve);
  }
  void Store(const std::string& name) {
    stores_.insert(name);
    if (refs_.count(name)) return;
    Define(name, parent_ != nullptr && parent_->Knows(name) ? Action::kAlias : Action::kUndefined);
  }
  uint32_t Declare(const std::string& name) {
    stores_.insert(name);
    return Define(name, Action::kParameter);
  }

  // What the branches of an {% if %} did, of which one runs at most.
  void Join(const std::vector<Symbols>& branches) {
    std::set<std::string> stores;
    for (const Symbols& branch : branches) stores.insert(branch.stores_.begin(), branch.stores_.end());
    for (const std::string& known : stores_) stores.erase(known);
    for (const Symbols& branch : branches) {
      refs_.insert(branch.refs_.begin(), branch.refs_.end());
      for (const auto& [name, action] : branch.loads_) loads_[name] = action;
      stores_.insert(branch.stores_.begin(), branch.stores_.end());
    }
    for (const std::string& name : stores) {
      loads_[name] = parent_ != nullptr && parent_->Knows(name) ? Action::kAlias : Action::kResolve;
    }
  }

  bool Knows(const std::string& name) const {
    return refs_.count(name) || (parent_ != nullptr && parent_->Knows(name));
  }
  // Requires: Knows(name).
  Place Find(const std::string& name) const {
    Place place;
    for (const Symbols* symbols = this; symbols != nullptr; symbols = symbols->parent_, ++place.hops) {
      if (!symbols->refs_.count(name)) continue;
      place.slot = symbols->slots_->at(name);
      break;
    }
    return place;
  }

  // Writes the frame down.
  void Finish() const {
    frame_->loads.clear();
    for (const auto& [name, slot] : *slots_) {
      const auto action = loads_.find(name);
      Load load{action == loads_.end() ? Action::kUndefined : action->second, slot, name, {}};
      if (load.action == Action::kAlias) {
        load.outer = parent_->Find(name);
        ++load.outer.hops;
      }
      frame_->loads.push_back(std::move(load));
    }
  }
  const std::map<std::string, uint32_t>& slots() const { return *slots_; }

 private:
  using Slots = std::map<std::string, uint32_t>;

  uint32_t Define(const std::string& name, Action action) {
    refs_.insert(name);
    loads_[name] = action;
    return slots_->emplace(name, static_cast<uint32_t>(slots_->size())).first->second;
  }

  const Symbols* parent_;
  Frame* frame_;
  std::shared_ptr<Slots> slots_;  // shared by the copies for branches
  std::set<std::string> refs_, stores_;
  std::map<std::string, Action> loads_;
};

// Collects the names that a piece of template reads and sets in its own scope.
class FrameNames {
 public:
  explicit FrameNames(Symbols* symbols) : symbols_(symbols) {}

  void Visit(const Block& block) {
    for (const auto& statement : block) Visit(*statement);
  }

  void Visit(const Statement& s) {
    switch (s.kind) {
      case S::kOutput:
        for (const auto& value : s.values) Visit(*value);
        break;
      case S::kIf: return VisitIf(s);
      case S::kFor:
      case S::kCall:
      case S::kFilter: return Visit(*s.value);
      case S::kSet:
        Visit(*s.value);
        return Target(*s.target, /*parameter=*/false);
      case S::kSetBlock: return Target(*s.target, false);
      case S::kMacro: return symbols_->Store(s.macro->name);
      case S::kWith:
        for (const auto& value : s.values) Visit(*value);
        break;
      default: break;  // a scope of its own, or no names
    }
  }

  void Visit(const Expression& e) {
    if (e.kind == E::kName) symbols_->Load_(e.name);
    EachPart(e, [this](const Expression& part) { Visit(part); });
  }

  void Target(const Expression& e, bool parameter) {
    if (e.kind == E::kNamespaceName) symbols_->Load_(e.name);
    else if (e.kind == E::kName && parameter) symbols_->Declare(e.name);
    else if (e.kind == E::kName) symbols_->Store(e.name);
    for (const auto& part : e.operands) Target(*part, parameter);
  }

 private:
  void VisitIf(const Statement& s) {
    Visit(*s.branches[0].first);
    Symbols* outer = symbols_;
    std::vector<Symbols> branches(3, *outer);
    symbols_ = &branches[0];
    Visit(s.branches[0].second);
    symbols_ = &branches[1];
    for (size_t i = 1; i < s.branches.size(); ++i) {  // each an {% if %} of its own, in one branch
      Visit(*s.branches[i].first);
      Symbols* all = symbols_;
      std::vector<Symbols> one(1, *all);
      symbols_ = &one[0];
      Visit(s.branches[i].second);
      symbols_ = all;
      all->Join(one);
    }
    symbols_ = &branches[2];
    Visit(s.otherwise);
    symbols_ = outer;
    outer->Join(branches);
  }

  Symbols* symbols_;
};

// Which of `names` are read before they are set, anywhere inside.
class Undeclared {
 public:
  Undeclared(const Block& block, std::set<std::string> names) : names_(std::move(names)) { Visit(block); }
  bool Has(const std::string& name) const { return found_.count(name) != 0; }

 private:
  void Visit(const Block& block) {
    for (const auto& statement : block) Visit(*statement);
  }
  void Read(const ExpressionPtr& e) {
    if (!e) return;
    if (e->kind == E::kName && names_.count(e->name)) found_.insert(e->name);
    EachPart(*e, [this](const Expression& part) { ReadPart(part); });
  }
  void ReadPart(const Expression& e) {
    if (e.kind == E::kName && names_.count(e.name)) found_.insert(e.name);
    EachPart(e, [this](const Expression& part) { ReadPart(part); });
  }
  void Set(const ExpressionPtr& e) {
    if (!e) return;
    if (e->kind == E::kName) names_.erase(e->name);
    for (const auto& part : e->operands) Set(part);
  }
  void Visit(const Statement& s) {
    if (s.kind == S::kBlock) return;
    Set(s.target);
    for (const auto& target : s.targets) Set(target);
    if (s.kind != S::kFilter) Read(s.value);
    for (const auto& value : s.values) Read(value);
    if (s.macro) {
      for (const Parameter& parameter : s.macro->parameters) names_.erase(parameter.name);
      for (const Parameter& parameter : s.macro->parameters) Read(parameter.fallback);
      Visit(s.macro->body);
    }
    for (const auto& [test, body] : s.branches) {
      Read(test);
      Visit(body);
    }
    Visit(s.body);
    if (s.kind == S::kFilter) Read(s.value);
    Visit(s.otherwise);
    Read(s.condition);
  }

  std::set<std::string> names_, found_;
};

// Gives places to names, scope by scope. `soft`: under a condition, where an unknown filter is an
// error only when it is reached.
class Resolver {
 public:
  absl::Status Root(Syntax& syntax) {
    Symbols symbols(nullptr, &syntax.frame);
    FrameNames(&symbols).Visit(syntax.body);
    EBB_RETURN_IF_ERROR(Visit(syntax.body, symbols, false));
    symbols.Finish();
    for (const auto& [name, slot] : symbols.slots()) syntax.top_level.emplace_back(name, slot);
    return absl::OkStatus();
  }

 private:
  absl::Status Visit(Block& block, const Symbols& symbols, bool soft) {
    for (const auto& statement : block) EBB_RETURN_IF_ERROR(Visit(*statement, symbols, soft));
    return absl::OkStatus();
  }

  absl::Status Visit(Statement& s, const Symbols& symbols, bool soft) {
    switch (s.kind) {
      case S::kOutput:
        for (auto& value : s.values) EBB_RETURN_IF_ERROR(Visit(*value, symbols, soft));
        return absl::OkStatus();
      case S::kIf:
        for (auto& [test, body] : s.branches) {
          EBB_RETURN_IF_ERROR(Visit(*test, symbols, true));
          EBB_RETURN_IF_ERROR(Visit(body, symbols, true));
        }
        return Visit(s.otherwise, symbols, true);
      case S::kFor: return VisitFor(s, symbols, soft);
      case S::kSet:
        EBB_RETURN_IF_ERROR(Visit(*s.target, symbols, soft));
        return Visit(*s.value, symbols, soft);
      case S::kSetBlock:
      case S::kFilter: return VisitCapture(s, symbols, soft);
      case S::kMacro:
      case S::kCall:
      case S::kGeneration: return VisitMacro(s, symbols, soft);
      case S::kWith: return VisitWith(s, symbols, soft);
      case S::kScope: {
        Symbols inner(&symbols, &s.frame);
        FrameNames names(&inner);
        names.Visit(*s.value);
        names.Visit(s.body);
        EBB_RETURN_IF_ERROR(Visit(*s.value, inner, false));
        return Inside(s.body, inner);
      }
      case S::kBlock: {
        Symbols inner(nullptr, &s.frame);
        FrameNames(&inner).Visit(s.body);
        return Inside(s.body, inner);
      }
      default: return absl::OkStatus();
    }
  }

  absl::Status Inside(Block& body, const Symbols& inner) {
    EBB_RETURN_IF_ERROR(Visit(body, inner, false));
    inner.Finish();
    return absl::OkStatus();
  }

  absl::Status VisitFor(Statement& s, const Symbols& symbols, bool soft) {
    if (SetsLoop(s)) return TemplateError(s.line, "the special variable 'loop' cannot be assigned to");
    Symbols body(&symbols, &s.frame), test(&symbols, &s.filter_frame), otherwise(&symbols, &s.else_frame);
    s.uses_loop = s.recursive || Undeclared(s.body, {"loop"}).Has("loop");
    if (s.uses_loop) {
      s.loop_slot = body.Declare("loop");
      test.Declare("");  // so that the targets have the same slots in both frames
    }
    FrameNames names(&body);
    names.Target(*s.target, true);
    names.Visit(s.body);
    FrameNames(&otherwise).Visit(s.otherwise);
    FrameNames test_names(&test);
    test_names.Target(*s.target, true);
    if (s.condition) test_names.Visit(*s.condition);
    EBB_RETURN_IF_ERROR(Visit(*s.target, body, false));
    EBB_RETURN_IF_ERROR(Visit(*s.value, symbols, soft));
    if (s.condition) EBB_RETURN_IF_ERROR(Visit(*s.condition, test, false));
    test.Finish();
    if (s.recursive) Capture(symbols);
    EBB_RETURN_IF_ERROR(Inside(s.body, body));
    return Inside(s.otherwise, otherwise);
  }

  // Whether anything inside a loop sets a variable named `loop`.
  static bool SetsLoop(const Statement& s) {
    const auto names_loop = [](const auto& self, const ExpressionPtr& e) -> bool {
      if (!e) return false;
      if (e->kind == E::kName) return e->name == "loop";
      return std::any_of(e->operands.begin(), e->operands.end(), [&](const auto& part) { return self(self, part); });
    };
    const auto any = [](const Block& block) {
      return std::any_of(block.begin(), block.end(), [](const auto& inner) { return SetsLoop(*inner); });
    };
    if (s.target && names_loop(names_loop, s.target)) return true;
    if (std::any_of(s.branches.begin(), s.branches.end(), [&](const auto& branch) { return any(branch.second); })) return true;
    return any(s.body) || any(s.otherwise) || (s.macro && any(s.macro->body));
  }

  absl::Status VisitCapture(Statement& s, const Symbols& symbols, bool soft) {
    Symbols inner(&symbols, &s.frame);
    FrameNames names(&inner);
    names.Visit(s.body);
    if (s.kind == S::kFilter) names.Visit(*s.value);
    EBB_RETURN_IF_ERROR(Visit(s.body, inner, false));
    if (s.target) EBB_RETURN_IF_ERROR(Visit(*s.target, symbols, soft));
    if (s.value) EBB_RETURN_IF_ERROR(Visit(*s.value, inner, false));
    inner.Finish();
    return absl::OkStatus();
  }

  absl::Status VisitWith(Statement& s, const Symbols& symbols, bool soft) {
    Symbols inner(&symbols, &s.frame);
    FrameNames names(&inner);
    for (const auto& target : s.targets) names.Target(*target, true);
    names.Visit(s.body);
    for (auto& target : s.targets) EBB_RETURN_IF_ERROR(Visit(*target, inner, false));
    for (auto& value : s.values) EBB_RETURN_IF_ERROR(Visit(*value, symbols, soft));
    return Inside(s.body, inner);
  }

  absl::Status VisitMacro(Statement& s, const Symbols& symbols, bool soft) {
    MacroSyntax& macro = *s.macro;
    Symbols inner(&symbols, &macro.frame);
    FrameNames names(&inner);
    for (Parameter& parameter : macro.parameters) parameter.slot = inner.Declare(parameter.name);
    for (const Parameter& parameter : macro.parameters) {
      if (parameter.fallback) names.Visit(*parameter.fallback);
    }
    names.Visit(macro.body);
    EBB_RETURN_IF_ERROR(DeclareSpecial(s, macro, inner));
    for (Parameter& parameter : macro.parameters) {
      if (parameter.fallback) EBB_RETURN_IF_ERROR(Visit(*parameter.fallback, inner, false));
    }
    EBB_RETURN_IF_ERROR(Inside(macro.body, inner));
    Capture(symbols);
    if (s.kind == S::kMacro) {
      auto name = std::make_unique<Expression>();
      name->kind = E::kName;
      name->line = s.line;
      name->name = macro.name;
      name->place = symbols.Find(macro.name);
      s.target = std::move(name);
    }
    return s.value ? Visit(*s.value, symbols, soft) : absl::OkStatus();
  }

  static absl::Status DeclareSpecial(const Statement& s, MacroSyntax& macro, Symbols& inner) {
    const Undeclared undeclared(macro.body, {"caller", "kwargs", "varargs"});
    const auto parameter = [&](const char* name) {
      return std::find_if(macro.parameters.begin(), macro.parameters.end(), [&](const Parameter& p) { return p.name == name; });
    };
    const auto none = macro.parameters.end();
    if (undeclared.Has("caller")) {
      const auto explicit_caller = parameter("caller");
      if (explicit_caller != none && !explicit_caller->fallback) {
        return TemplateError(s.line, "the parameter 'caller' of a macro must be left out or have a default");
      }
      macro.uses_caller = true;
      if (explicit_caller == none) macro.caller_slot = inner.Declare("caller");
    }
    if (undeclared.Has("kwargs") && parameter("kwargs") == none) {
      macro.uses_kwargs = true;
      macro.kwargs_slot = inner.Declare("kwargs");
    }
    if (undeclared.Has("varargs") && parameter("varargs") == none) {
      macro.uses_varargs = true;
      macro.varargs_slot = inner.Declare("varargs");
    }
    return absl::OkStatus();
  }

  // Something that is called later sees these scopes.
  static void Capture(const Symbols& symbols) {
    for (const Symbols* s = &symbols; s != nullptr; s = s->parent()) s->frame()->captured = true;
  }

  absl::Status Visit(Expression& e, const Symbols& symbols, bool soft) {
    if (e.kind == E::kName || e.kind == E::kNamespaceName) {
      if (!symbols.Knows(e.name)) return TemplateError(e.line, absl::StrCat("the name '", e.name.substr(0, 40), "' has no scope here"));
      e.place = symbols.Find(e.name);
    }
    soft = soft || e.kind == E::kCondition;
    if (e.kind == E::kFilter) e.filter = FindFilter(e.name);
    if (e.kind == E::kTest) e.test = FindTest(e.name);
    const bool unknown = (e.kind == E::kFilter && e.filter == nullptr) || (e.kind == E::kTest && e.test == nullptr);
    if (unknown && !soft) {
      return TemplateError(e.line, absl::StrCat("the ", e.kind == E::kFilter ? "filter" : "test", " '", e.name.substr(0, 40), "' is not known"));
    }
    absl::Status status;
    const auto visit = [&](ExpressionPtr& part) {
      if (part && status.ok()) status = Visit(*part, symbols, soft);
    };
    for (auto& part : e.operands) visit(part);
    for (auto& [name, part] : e.named) visit(part);
    visit(e.more_positional);
    visit(e.more_named);
    return status;
  }
};

}  // namespace

absl::Status Bind(Syntax& syntax) { return Resolver().Root(syntax); }

}  // namespace ebbinghaus::jinja
