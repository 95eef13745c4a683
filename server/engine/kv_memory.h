// How much memory K/V may take.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace ebbinghaus::engine {

// Beside weights and K/V: the buffers of a step, tokenizer and vocabulary, connections and mailboxes, libtorch itself.
inline constexpr uint64_t kWorkspaceBytes = uint64_t{512} << 20;

// The part of it for what sequences need beside K/V: the memory's state, records for token weights, attention that waits to
// be read, logits. What many sequences need beyond that is taken from what the page pool may hold.
inline constexpr uint64_t kStateAllowanceBytes = kWorkspaceBytes / 4;

// What the page pool may hold, in bytes: `asked`, or with 0 what weights, workspace and the prefix cache's own memory leave
// of 80 % of `limit`, the memory of this machine or cgroup (other processes live there too). `limit` 0: not known; then nothing is
// checked against it, and 8 GiB are assumed for the default.
// `least`: one page in every layer.
// Errors: InvalidArgument for less than `least`; ResourceExhausted, with the whole sum, when it does not fit.
absl::StatusOr<uint64_t> KvMemoryBytes(uint64_t asked, uint64_t limit, uint64_t weight_bytes, uint64_t least);

}  // namespace ebbinghaus::engine
