// What admission asks of values from outside before a template sees them.
#pragma once

#include <cstddef>

#include "server/jinja/value.h"

namespace ebbinghaus::jinja {

// The bytes of all texts inside, and a few for each item.
size_t WeightOf(const Value& value);
size_t WeightOf(const Dict& dict);
// Whether no number inside is infinite or NaN.
bool IsFinite(const Value& value);
bool IsFinite(const Dict& dict);

}  // namespace ebbinghaus::jinja
