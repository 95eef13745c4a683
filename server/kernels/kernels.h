// The inner loops, once per instruction set. Everything here runs on the calling thread, allocates nothing, and gives an
// output that depends neither on how many rows are computed together nor on which other outputs are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "server/kernels/kv_layout.h"
#include "server/kernels/weight_form.h"

namespace ebbinghaus::kernels {

// Activations as the kernels of one weight form read them.
struct PreparedRows {
  std::byte* data = nullptr;  // [rows][row_bytes]
  float* scales = nullptr;    // [rows][groups], integer forms
  int32_t* sums = nullptr;    // [rows][groups] of the quantized values
  int64_t row_bytes = 0, groups = 0;
};

// Attention reads K/V in blocks of so many slots; partial results of a block are merged in the order of blocks.
inline constexpr int64_t kBlockSlots = 256;

// One block of one head's K/V: pages[i] holds its slots [i * page_tokens, ...).
struct KvBlock {
  std::byte* const* pages = nullptr;
  int64_t head = 0;
  int64_t slots = 0;  // 1 ... kBlockSlots
};

// n is a multiple of 16 where it says [n16]; all arrays have room for it.
struct KernelTable {
  std::string_view name;  // "portable", "avx2", "avx512"

  // --- matrices ---
  int64_t (*prepared_row_bytes)(WeightForm form, int64_t columns);
  // x: [rows] of `columns` fp32, `stride` apart. Integer forms: one scale per ActivationGroup columns, the largest
  // magnitude / 127. Padding is zeroed.
  void (*prepare)(WeightForm form, const float* x, int64_t stride, int64_t rows, int64_t columns, const PreparedRows& out);
  // out[r * stride + 16 * b + lane] = sum over columns of weight * x (+ bias[16 * b + lane], if given) for `blocks` blocks.
  void (*multiply)(WeightForm form, const std::byte* blocks, int64_t block_count, int64_t columns, const PreparedRows& x,
                   int64_t rows, const float* bias, float* out, int64_t stride);

  // --- attention over one block of slots ---
  int64_t (*kv_row_bytes)(KvForm form, int64_t values);
  // x: [n] fp32, times `scale` [n] where given -> what scores and mix read.
  void (*prepare_kv_row)(KvForm form, const float* x, const float* scale, int64_t n, std::byte* out);
  // scores: [rows][kBlockSlots], all 16 lanes of the last tile written. queries: [rows] prepared, [D].
  void (*scores)(const KvLayout& layout, const KvBlock& block, const std::byte* queries, int64_t rows, float* scores);
  // In place: scores -> exp(score - maximum) for the first `visible` slots, 0 beyond up to kBlockSlots.
  // `log_weights` [kBlockSlots] is added first, `factors` multiplied first, either may be null.
  // A row that sees nothing has maximum -infinity and sum 0.
  void (*block_softmax)(float* scores, int64_t visible, const float* log_weights, const float* factors, float* maximum,
                        float* sum);
  // mixed: [rows][padded head size] = probabilities x values. probabilities: [rows] prepared, [kBlockSlots].
  void (*mix)(const KvLayout& layout, const KvBlock& block, const std::byte* probabilities, int64_t rows, float* mixed);
  // ln of the weights of spec 4.2: clamp(-time_step * (now - last_reset) / strength, lowest, highest). [n]
  void (*log_weights)(const float* strength, const int32_t* last_reset, int32_t now, float time_step, float lowest,
                      float highest, int64_t n, float* out);
  void (*exponentials)(const float* x, int64_t n, float* out);  // [n]
  // sum[i] += factors[r] * x[r * kBlockSlots + i], in the order of the rows. n: a multiple of 16, at most kBlockSlots.
  void (*add_scaled_rows)(const float* x, const float* factors, int64_t rows, int64_t n, float* sum);
  // Column sums of rows of mass in fixed point, so that neither order nor grouping matters: sums += round(mass * 2^27);
  // last_strong_row = row where mass >= threshold. [n]
  void (*add_columns)(const float* mass, float threshold, int32_t row, int64_t n, int64_t* sums, int32_t* last_strong_row);

  // --- between matrices, [n] ---
  void (*rms_norm)(const float* x, const float* weight, float epsilon, int64_t n, float* out);
  void (*add)(const float* x, int64_t n, float* sum);
  // gate = silu(gate) * up.
  void (*silu_multiply)(float* gate, const float* up, int64_t n);
  // Rotates the halves of x [2 * half] by the angles, then multiplies by `scale`.
  void (*rotate)(float* x, const float* cosine, const float* sine, int64_t half, float scale);
};

inline constexpr double kMassUnit = 1.0 / (1 << 27);  // of add_columns

enum class Target { kPortable, kAvx2, kAvx512 };
inline constexpr Target kAllTargets[] = {Target::kPortable, Target::kAvx2, Target::kAvx512};

// nullptr where this build has no such kernels.
const KernelTable* KernelsFor(Target target);
bool Supports(Target target);  // this build and this processor
// The fastest supported one, or the one of that name. nullopt: no such name, or not supported here.
std::optional<Target> ChooseTarget(std::string_view name);

}  // namespace ebbinghaus::kernels
