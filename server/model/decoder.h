// What turns tokens into logits. Two ways of computing the same: ReferenceDecoder with libtorch's operations, on any device,
// and PackedDecoder with kernels of our own.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/base/ids.h"
#include "server/cache/kv_cache.h"
#include "server/kernels/kernels.h"
#include "server/model/config.h"
#include "server/model/memory_mediator.h"

namespace ebbinghaus::model {

// One sequence's part of a pass: consecutive tokens, the first of which has position `first`.
struct Segment {
  absl::Span<const base::TokenId> tokens;  // not empty, ids below the vocabulary
  base::Position first = 0;
  cache::KvCache* cache = nullptr;   // of the decoder's page_shape(); with more than one token all its slots are older
  MemoryMediator* memory = nullptr;  // null: plain attention, nothing observed
  int64_t logit_rows = 1;            // of how many of the last rows; 0 = none

  std::vector<float> logits = {};  // out: [logit_rows, V]
  absl::Status status = {};        // out: ResourceExhausted when the page pool is full; the sequence is then unusable
};

// Immutable but for scratch memory; the state of a sequence is in its KvCache. One thread.
class Decoder {
 public:
  virtual ~Decoder() = default;

  virtual const ModelConfig& config() const = 0;
  virtual cache::PageShape page_shape() const = 0;
  virtual uint64_t weight_bytes() const = 0;  // resident

  // What is computed beside the passes, such as a draw, uses these kernels too; by default the processor's best.
  virtual const kernels::KernelTable& kernels() const { return *kernels::KernelsFor(*kernels::ChooseTarget("")); }

  // Whether a pass over several segments is one computation. If not, the caller should hand in one at a time, so that an
  // exception of libtorch, which Forward lets through, ends one sequence only.
  virtual bool batches() const = 0;

  // Appends every segment's K/V to each layer of its cache and computes its logits. A segment's outcome does not depend on
  // the others.
  virtual void Forward(absl::Span<Segment> segments) = 0;
};

}  // namespace ebbinghaus::model
