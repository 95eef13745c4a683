// config.json and, after a zero byte, generation_config.json.
#include <cmath>

#include "server/base/check.h"
#include "server/model/checkpoint.h"
#include "server/model/config.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::model {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [config_json, generation_json] = fuzz::SplitAtZero(fuzz::AsText(data, size));
  const fuzz::PeakMemory memory;
  const absl::StatusOr<ModelConfig> config = ParseHuggingFaceConfig(config_json, generation_json);
  EBB_CHECK(memory.bytes() <= 256 * size + (64 << 10));
  if (!config.ok()) {
    EBB_CHECK(config.status().message().size() < 4096);
    return 0;
  }
  EBB_CHECK(config->layers >= 1 && config->context >= 1 && config->hidden >= 1 && config->vocabulary >= 1);
  EBB_CHECK(config->query_heads % config->kv_heads == 0 && config->head_size % 2 == 0);
  for (const base::TokenId id : config->eos_token_ids) EBB_CHECK(id < config->vocabulary);
  if (config->bos_token_id) EBB_CHECK(*config->bos_token_id < config->vocabulary);
  for (const float frequency : RopeInverseFrequencies(*config)) EBB_CHECK(std::isfinite(frequency) && frequency >= 0);
  for (const TensorRequirement& tensor : RequiredTensors(*config)) {
    EBB_CHECK(TensorBytes(TensorType::kF32, tensor.shape).has_value());
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::MutateJson(data, size, max_size, seed);
}

}  // namespace ebbinghaus::model
