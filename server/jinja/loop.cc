#include "server/jinja/loop.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/jinja/builtins.h"
#include "server/jinja/printing.h"

namespace ebbinghaus::jinja {

absl::StatusOr<bool> LoopContext::Next(Value* item) {
  if (!ahead_.empty()) {
    *item = std::move(ahead_.back());
    ahead_.pop_back();
  } else {
    if (ended_) return false;
    EBB_ASSIGN_OR_RETURN(const bool more, pull_(item));
    ended_ = !more;
    if (!more) return false;
  }
  ++index0_;
  before_ = std::move(current_);
  current_ = *item;
  return true;
}

absl::StatusOr<bool> LoopContext::Peek() {
  if (!ahead_.empty()) return true;
  if (ended_) return false;
  if (closed_) return Refused("a loop that is over cannot look ahead");
  Value item;
  EBB_ASSIGN_OR_RETURN(const bool more, pull_(&item));
  ended_ = !more;
  if (more) ahead_.push_back(std::move(item));
  return more;
}

absl::StatusOr<int64_t> LoopContext::Length_() {
  if (length_ >= 0) return length_;
  if (closed_) return Refused("a loop that is over cannot look ahead");
  std::vector<Value> rest(ahead_.rbegin(), ahead_.rend());
  for (Value item; !ended_;) {
    EBB_ASSIGN_OR_RETURN(const bool more, pull_(&item));
    ended_ = !more;
    if (more) rest.push_back(item);
  }
  length_ = static_cast<int64_t>(rest.size()) + index0_ + 1;
  ahead_.assign(rest.rbegin(), rest.rend());
  return length_;
}

absl::StatusOr<Value> LoopContext::Attribute(const std::string& name) {
  if (name == "index0") return Value(index0_);
  if (name == "index") return Value(index0_ + 1);
  if (name == "first") return Value(index0_ == 0);
  if (name == "depth0") return Value(depth0);
  if (name == "depth") return Value(depth0 + 1);
  if (name == "previtem") return index0_ == 0 || before_.missing() ? Value::Not("there is no previous item") : before_;
  if (name == "last" || name == "nextitem") {
    EBB_ASSIGN_OR_RETURN(const bool more, Peek());
    if (name == "last") return Value(!more);
    return more ? ahead_.back() : Value::Not("there is no next item");
  }
  if (name != "length" && name != "revindex" && name != "revindex0") return Value(Missing{});
  EBB_ASSIGN_OR_RETURN(const int64_t length, Length_());
  return Value(name == "length" ? length : name == "revindex" ? length - index0_ : length - index0_ - 1);
}

absl::StatusOr<Value> LoopContext::Cycle(const Arguments& arguments) const {
  if (!arguments.named.empty() || arguments.positional.empty()) return Refused("loop.cycle needs items");
  return arguments.positional[static_cast<size_t>(index0_) % arguments.positional.size()];
}

Value LoopContext::Changed(const Arguments& arguments, Budget& budget) {
  const List& values = arguments.positional;
  const bool same = changed_ && changed_->size() == values.size() &&
                    std::equal(values.begin(), values.end(), changed_->begin(), [&](const Value& a, const Value& b) { return Equal(a, b, budget); });
  if (!same) changed_ = values;
  return Value(!same);
}

std::string MacroObject::Printed() const {
  if (!syntax->has_name) return "<Macro None>";
  return absl::StrCat("<Macro '", syntax->name, "'>");
}

Value MacroObject::Attribute(const std::string& name) const {
  if (name == "name") return syntax->has_name ? Value::Of(syntax->name) : Value(None{});
  if (name == "catch_kwargs") return Value(syntax->uses_kwargs);
  if (name == "catch_varargs") return Value(syntax->uses_varargs);
  if (name == "caller") return Value(syntax->uses_caller);
  if (name == "explicit_caller") return Value(syntax->explicit_caller);
  if (name != "arguments") return Value(Missing{});
  List names;
  for (const Parameter& parameter : syntax->parameters) names.push_back(Value::Of(parameter.name));
  return Value::Tuple(std::move(names));
}

}  // namespace ebbinghaus::jinja
