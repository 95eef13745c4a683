// A template of the Jinja language, as jinja2 3.1 understands it in the sandbox that `transformers`
// sets up (ImmutableSandboxedEnvironment, trim_blocks, lstrip_blocks, loop controls, generation
// blocks), without include, import, extends and translations.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/jinja/value.h"

namespace ebbinghaus::jinja {

struct Syntax;

// Immutable, cheap to copy, thread safe.
class Template {
 public:
  // Errors: InvalidArgument with the line and what is malformed or unknown.
  static absl::StatusOr<Template> Parse(std::string_view source);

  // The text, each byte of which knows whether it came from a text marked `from_caller`.
  // `variables`: a mapping from names; `now`: what strftime_now formats, in local time;
  // `cancelled`: asked now and then, ends the rendering when true (may be null).
  // Errors: InvalidArgument for what the template refuses (raise_exception), does wrong, or needs
  // and is not supported; ResourceExhausted above the budget; Cancelled. None of them quotes what
  // a caller wrote.
  absl::StatusOr<Text> Render(const Dict& variables, std::time_t now, const std::function<bool()>* cancelled = nullptr) const;

 private:
  std::shared_ptr<const Syntax> syntax_;
};

}  // namespace ebbinghaus::jinja
