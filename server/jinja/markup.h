// HTML escaping, as MarkupSafe does it.
#pragma once

#include "absl/status/statusor.h"
#include "server/jinja/budget.h"
#include "server/jinja/text.h"

namespace ebbinghaus::jinja {

// The text as markup: escaped, unless it is markup already.
Text Escape(const Text& text);
// Without tags and comments, entities read, white space joined. Errors: InvalidArgument for an
// entity beyond the few that Escape writes and numbers.
absl::StatusOr<Text> StripTags(const Text& text, Budget& budget);

}  // namespace ebbinghaus::jinja
