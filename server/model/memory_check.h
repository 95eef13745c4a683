// The question whether there is room for a model, asked before its weights take any.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "server/cache/page_pool.h"

namespace ebbinghaus::model {

// `weight_bytes`: what the decoder's weight_bytes() will be, worked out from the tensors' shapes. An error ends the loading.
using MemoryCheck = std::function<absl::Status(uint64_t weight_bytes, const cache::PageShape& page)>;

}  // namespace ebbinghaus::model
