// The decoder on the CPU kernels: packed weights, K/V in the kernels' layout, one pass for all sequences of a step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/kernels/attention.h"
#include "server/kernels/kernels.h"
#include "server/kernels/packed_matrix.h"
#include "server/kernels/thread_team.h"
#include "server/model/checkpoint.h"
#include "server/model/decoder.h"
#include "server/model/memory_check.h"
#include "server/model/packed_weights.h"

namespace ebbinghaus::model {

struct PackedOptions {
  WeightChoice weights = WeightChoice::kAuto;
  kernels::KvForm kv = kernels::KvForm::kBf16;
  const kernels::KernelTable* kernels = kernels::KernelsFor(kernels::Target::kPortable);
  int threads = 1;
  int64_t page_tokens = 64;  // divides kernels::kBlockSlots; a multiple of 16
  std::function<void(uint64_t done_bytes, uint64_t all_bytes)> progress = {};  // while packing; may be empty
  MemoryCheck memory_check = {};                                               // before it; may be empty
};

// A row's result does not depend, bit for bit, on the other rows of the pass, on how its prompt was cut into passes, nor
// on the number of threads.
class PackedDecoder final : public Decoder {
 public:
  // Errors: those of PackWeights and of the memory check.
  static absl::StatusOr<std::unique_ptr<PackedDecoder>> Load(const Checkpoint& checkpoint, const PackedOptions& options);

  const ModelConfig& config() const override { return config_; }
  cache::PageShape page_shape() const override { return cache::PackedShape(layout_); }
  uint64_t weight_bytes() const override { return weights_.bytes(); }
  const kernels::KernelTable& kernels() const override { return kernels_; }
  bool batches() const override { return true; }
  void Forward(absl::Span<Segment> segments) override;

  const PackedWeights& weights() const { return weights_; }

 private:
  PackedDecoder(const ModelConfig& config, const PackedOptions& options);

  // One row of the pass: a token of a segment.
  struct Row {
    Segment* segment;
    int64_t index;  // within the segment
    float *cosine, *sine;
  };

  void Begin(absl::Span<Segment> segments);
  void RunLayer(uint32_t index);
  void StoreKeysAndValues(uint32_t index);
  void Attend(uint32_t index);
  void HandBackMass(uint32_t index);
  void ComputeLogits();
  // rows of `input` (plus `add`, which is added to it, if given), normalized, times each part of `linear` -> out.
  void NormAndMultiply(const std::vector<float>& norm, const float* add, const PackedLinear& linear, float* out, int64_t stride);
  void Multiply(const PackedLinear& linear, const float* x, int64_t x_stride, float* out, int64_t stride);
  int64_t rows() const { return static_cast<int64_t>(rows_.size()); }

  const ModelConfig config_;
  const kernels::KvLayout layout_;
  const kernels::KernelTable& kernels_;
  kernels::ThreadTeam team_;
  kernels::Attention attention_;
  PackedWeights weights_;
  std::vector<float> inverse_frequencies_;  // [D / 2]

  // The pass under way, and memory that is kept between passes.
  struct Mass {
    WantedMass wanted;
    std::vector<int64_t> sums;
    std::vector<double> sums_as_reals;
    std::vector<int32_t> last_strong_row;
    std::vector<float> last_row;
  };
  std::vector<Segment*> segments_;
  std::vector<Row> rows_;
  std::vector<Mass> mass_;                        // by segment
  std::vector<kernels::AttentionTask> tasks_;     // by segment
  std::vector<float> angles_;                     // [rows][cosines, sines]
  std::vector<float> x_, normed_, qkv_, attended_, hidden_, update_, logits_;
  kernels::RowBuffer prepared_;
};

}  // namespace ebbinghaus::model
