// The four integers that must never be mixed (design: "never mix"), and the sequence's name.
#pragma once

#include <cstdint>

namespace ebbinghaus::base {

using TokenId = uint32_t;   // an entry of the vocabulary
using Position = uint32_t;  // absolute place in the sequence; drives RoPE, never reused
using Slot = uint32_t;      // row of one layer's cache; dense, so it changes when others are forgotten
using Tick = int32_t;       // a sequence's own clock (memory-spec 2.2)

// Names a sequence inside the engine for as long as it is there; never reused.
enum class SequenceId : uint64_t {};

}  // namespace ebbinghaus::base
