// Lines of bounded width.
#pragma once

#include <cstddef>
#include <vector>

#include "server/jinja/budget.h"
#include "server/jinja/text.h"

namespace ebbinghaus::jinja {

// Python's textwrap.wrap without expanding tabs or replacing white space. Requires: width > 0.
std::vector<Text> Wrap(const Text& text, size_t width, bool break_long_words, bool break_on_hyphens, Budget& budget);

}  // namespace ebbinghaus::jinja
