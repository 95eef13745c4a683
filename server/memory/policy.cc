#include "server/memory/policy.h"

#include "server/memory/baseline_policy.h"
#include "server/memory/soft_delete_policy.h"
#include "server/memory/sparse_attention_policy.h"

namespace ebbinghaus::memory {

std::unique_ptr<const MemoryPolicy> MakePolicy(base::GenerationMode mode,
                                               const base::MemoryParameters& parameters,
                                               uint32_t layers) {
  switch (mode) {
    case base::GenerationMode::kBaseline:
      break;
    case base::GenerationMode::kSoftDelete:
      return std::make_unique<SoftDeletePolicy>(parameters, layers);
    case base::GenerationMode::kSparseAttention:
      return std::make_unique<SparseAttentionPolicy>(parameters, layers);
  }
  return std::make_unique<BaselinePolicy>();
}

}  // namespace ebbinghaus::memory
