#include "server/base/generation.h"

namespace ebbinghaus::base {

std::string_view Name(GenerationMode mode) {
  switch (mode) {
    case GenerationMode::kBaseline: return "baseline";
    case GenerationMode::kSoftDelete: return "soft_delete";
    case GenerationMode::kSparseAttention: return "sparse_attention";
  }
  return "unknown";
}

std::string_view Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos: return "eos";
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kDraining: return "draining";
  }
  return "unknown";
}

}  // namespace ebbinghaus::base
