#include "server/jinja/template.h"

#include <new>
#include <utility>

#include "server/base/status_macros.h"
#include "server/jinja/interpreter.h"
#include "server/jinja/syntax.h"

namespace ebbinghaus::jinja {

absl::StatusOr<Template> Template::Parse(std::string_view source) {
  EBB_ASSIGN_OR_RETURN(Syntax syntax, ParseTemplate(source));
  Template parsed;
  parsed.syntax_ = std::make_shared<const Syntax>(std::move(syntax));
  return parsed;
}

// The budget leaves room for more than some machines have.
absl::StatusOr<Text> Template::Render(const Dict& variables, std::time_t now, const std::function<bool()>* cancelled) const try {
  absl::StatusOr<Text> text = Interpreter(*syntax_, variables, now, cancelled).Run();
  if (absl::IsAborted(text.status())) return absl::InvalidArgumentError(text.status().message());
  return text;
} catch (const std::bad_alloc&) {
  return absl::ResourceExhaustedError("chat template: out of memory");
}

}  // namespace ebbinghaus::jinja
