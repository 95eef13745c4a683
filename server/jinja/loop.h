// The objects behind `loop` and macros.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/jinja/heap.h"
#include "server/jinja/syntax.h"

namespace ebbinghaus::jinja {

// The variables of a frame that runs.
struct Scope {
  Scope* parent;
  std::vector<Value> slots;
};

// jinja2's LoopContext: pulls items one by one, and looks ahead only when asked to.
struct LoopContext final : Object {
  using Pull = std::function<absl::StatusOr<bool>(Value*)>;
  LoopContext(Pull pull, int64_t size, int64_t depth0) : depth0(depth0), pull_(std::move(pull)), length_(size) {}
  const char* TypeName() const override { return "LoopContext"; }

  // The next item; false at the end.
  absl::StatusOr<bool> Next(Value* item);
  // An attribute's value; Missing if there is none of that name.
  absl::StatusOr<Value> Attribute(const std::string& name);
  absl::StatusOr<Value> Cycle(const Arguments& arguments) const;
  Value Changed(const Arguments& arguments, Budget& budget);
  // The loop is over: what it pulled from may be gone.
  void Close() { closed_ = true; }

  const int64_t depth0;
  // Where it can be called: {% for ... recursive %}.
  const Statement* statement = nullptr;
  Scope* scope = nullptr;

 private:
  absl::StatusOr<int64_t> Length_();
  absl::StatusOr<bool> Peek();  // false: there is no next item

  Pull pull_;
  int64_t length_;  // -1: unknown yet
  int64_t index0_ = -1;
  bool closed_ = false, ended_ = false;
  Value before_{Missing{}}, current_{Missing{}};
  std::vector<Value> ahead_;  // pulled too early, last first
  std::optional<List> changed_;
};

struct MacroObject final : Object {
  MacroObject(const MacroSyntax* syntax, Scope* scope) : syntax(syntax), scope(scope) {}
  const char* TypeName() const override { return "Macro"; }
  std::string Printed() const override;
  Value Attribute(const std::string& name) const;  // Missing if there is none of that name

  const MacroSyntax* syntax;
  Scope* scope;
};

}  // namespace ebbinghaus::jinja
