// One sequence's K/V and queries, attention over it, and the same read naively in double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/base/retention.h"
#include "server/kernels/attention.h"
#include "tests/unit/kernels/tables.h"

namespace ebbinghaus::kernels {

struct Shape {
  KvForm form = KvForm::kF32;
  int64_t kv_heads = 2, group = 1, head_size = 16, page_tokens = 64;
  int64_t live = 1;

  int64_t heads() const { return kv_heads * group; }
  int64_t width() const { return heads() * head_size; }  // H * D
  int64_t query_stride() const { return width() + 3; }
  int64_t out_stride() const { return width() + 5; }
  KvLayout layout() const { return {form, kv_heads, head_size, page_tokens}; }
};

struct Weighting {
  base::AttentionWeighting weighting;
  std::vector<float> strength;         // [N]
  std::vector<base::Tick> last_reset;  // [N]
  base::Tick now = 0;
};
Weighting RandomWeighting(base::AttentionWeighting::Form form, int64_t live, uint32_t seed);

// What one task gives.
struct Result {
  std::vector<float> out;   // [T, H * D], out_stride() apart
  std::vector<float> mass;  // [N] of the last row
  std::vector<int64_t> sums;
  std::vector<int32_t> strong;  // -1: in no row
};

struct Reference {
  std::vector<double> out;   // [H * D] of one row
  std::vector<double> mass;  // [slots seen]
};

class Scene {
 public:
  static constexpr float kThreshold = 0.05f;

  // `sharpness`: about the standard deviation of logits.
  Scene(const Shape& shape, uint32_t seed, float sharpness = 2);
  Scene(const Scene&) = delete;

  const Shape& shape() const { return shape_; }
  std::byte* page(int64_t i) { return pages_[i]; }
  // Puts the slots in this order. Only rows that see all of them keep their meaning.
  void Permute(const std::vector<int64_t>& order);

  // The rows [end - rows, end) over the slots [0, end), which writes to `result`; its mass of rows
  // from `first_mass_row` on.
  AttentionTask Task(int64_t end, int64_t rows, Result& result, int64_t first_mass_row = 0) const;
  AttentionTask WeightedTask(const Weighting& weighting, Result& result) const;
  // That task alone, by one thread.
  Result RunAlone(const KernelTable& table, int64_t end, int64_t rows,
                  int64_t first_mass_row = 0) const;

  // Row `row` over the slots [0, row]. With `weights`, [N], logits are treated as `form` says.
  Reference Naive(const KernelTable& table, int64_t row, base::AttentionWeighting::Form form = {},
                  const std::vector<double>& weights = {}) const;

 private:
  void Store(int64_t slot);

  Shape shape_;
  std::vector<float> keys_, values_;  // [N, K * D], as asked to store
  std::vector<float> stored_keys_, stored_values_;
  std::vector<float> queries_;  // [N, H * D], query_stride() apart
  std::vector<std::vector<std::byte>> memory_;
  std::vector<std::byte*> pages_;
};

// By how much an output may differ from the reference, values being at most 1.
inline double OutputTolerance(const KernelTable& table, KvForm form) {
  // Probabilities rounded to bf16 are off by 2^-9 each, whatever rounds up or down.
  return form == KvForm::kBf16 && RoundsActivationsToBf16(table) ? 1.0 / 256 : 1e-5;
}

}  // namespace ebbinghaus::kernels
