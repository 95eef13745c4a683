// Small text helpers. Debian's absl has a string_view of its own under C++20, so absl's do not fit
// std::string_view.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace ebbinghaus::text {

std::string Concat(std::initializer_list<std::string_view> parts);

// For error messages: in quotation marks, escaped to ASCII, cut after 100 bytes.
std::string Quoted(std::string_view text);

// Requires: `from` is not empty.
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace ebbinghaus::text
