// A model of a well-known shape with random weights, in memory: for measuring speed without a download. What it writes
// is noise.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>

#include "server/model/checkpoint.h"

namespace ebbinghaus::bench {

// A few megabytes of random values in one stored type, which appear again and again in a much longer range of addresses.
class RepeatingPool {
 public:
  // `bytes` of address space are readable from data() on. Throws std::bad_alloc where the system refuses.
  RepeatingPool(model::TensorType type, size_t bytes);
  RepeatingPool(const RepeatingPool&) = delete;
  RepeatingPool& operator=(const RepeatingPool&) = delete;
  ~RepeatingPool();

  const std::byte* data() const { return data_; }
  size_t period_bytes() const { return period_; }

 private:
  std::byte* data_ = nullptr;
  size_t mapped_ = 0, period_ = 0;
};

// The shape of Qwen2.5-0.5B: matrices in `type`, the tied embedding in `embedding_type`, norms 1. Immutable.
class RandomCheckpoint final : public model::Checkpoint {
 public:
  // Requires: kBf16, kQ8_0, kQ4_0 or kQ4_1 for both.
  RandomCheckpoint(model::TensorType type, model::TensorType embedding_type);

  const model::ModelConfig& config() const override { return config_; }
  const model::TokenizerSource& tokenizer() const override { return tokenizer_; }
  const std::string& chat_template() const override { return empty_; }
  const std::string& bos_token() const override { return empty_; }
  const std::string& eos_token() const override { return empty_; }

 private:
  const model::StoredTensor* Look(const std::string& name) const override;
  void AddTensor(const model::TensorRequirement& required, model::TensorType type);

  model::ModelConfig config_;
  model::TokenizerSource tokenizer_;
  std::string empty_;
  std::vector<float> ones_;
  std::map<model::TensorType, std::unique_ptr<RepeatingPool>> pools_;
  std::map<std::string, model::StoredTensor> tensors_;
};

}  // namespace ebbinghaus::bench
