#include "server/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ebbinghaus::kernels {
namespace {

constexpr int64_t kTileTokens = 8;                // prefill rows that share a read of K/V
constexpr int64_t kMassFloats = int64_t{1} << 20;  // of probabilities kept between two phases: about what a cache holds
constexpr float kNothing = -std::numeric_limits<float>::infinity();

int64_t Blocks(int64_t slots) { return (slots + kBlockSlots - 1) / kBlockSlots; }

template <typename T>
void Grow(std::vector<T>& buffer, int64_t size) {
  if (buffer.size() < static_cast<size_t>(size)) buffer.resize(size);
}

KvBlock BlockOf(const KvLayout& layout, std::byte* const* pages, int64_t head, int64_t block, int64_t slots) {
  const int64_t first = block * kBlockSlots;
  return {pages + first / layout.page_tokens, head, std::min(kBlockSlots, slots - first)};
}

// Running softmax: takes a block's (maximum, sum, mixed values) into what was merged before.
void Merge(float maximum, float sum, const float* mixed, int64_t size, float& all_maximum, float& all_sum, float* all_mixed) {
  if (maximum == kNothing) return;
  const float larger = std::max(all_maximum, maximum);
  const float old_factor = std::exp(all_maximum - larger), new_factor = std::exp(maximum - larger);
  all_sum = all_sum * old_factor + sum * new_factor;
  for (int64_t i = 0; i < size; ++i) all_mixed[i] = all_mixed[i] * old_factor + mixed[i] * new_factor;
  all_maximum = larger;
}

bool WantsMass(const AttentionTask& task) { return task.last_row_mass != nullptr || task.first_mass_row < task.rows; }

}  // namespace

Attention::Attention(const KernelTable* kernels, ThreadTeam* team, const KvLayout& layout, int64_t query_heads)
    : kernels_(*kernels),
      team_(*team),
      layout_(layout),
      heads_(query_heads),
      group_(query_heads / layout.kv_heads),
      threads_(team->threads()) {}

void Attention::PrepareThreads(std::span<const AttentionTask> tasks) {
  int64_t rows = 1, strip_slots = 0;
  for (const AttentionTask& task : tasks) {
    if (task.rows == 1) continue;
    rows = kTileTokens;
    if (WantsMass(task)) strip_slots = std::max(strip_slots, Blocks(task.live) * kBlockSlots);
  }
  rows *= group_;
  const int64_t size = layout_.padded_size();
  for (Thread& thread : threads_) {
    Grow(thread.queries, rows * kernels_.kv_row_bytes(layout_.form, layout_.head_size));
    Grow(thread.probabilities, rows * kernels_.kv_row_bytes(layout_.form, kBlockSlots));
    Grow(thread.scores, rows * kBlockSlots);
    Grow(thread.mixed, rows * size);
    Grow(thread.merged, rows * size);
    Grow(thread.maximum, rows);
    Grow(thread.sum, rows);
    Grow(thread.block_maximum, rows);
    Grow(thread.block_sum, rows);
    Grow(thread.weights, kBlockSlots);
    Grow(thread.factors, kBlockSlots);
    Grow(thread.shares, group_);
    Grow(thread.strip, rows * strip_slots);
    Grow(thread.strip_maximum, rows * strip_slots / kBlockSlots);
    Grow(thread.mass, kTileTokens * strip_slots);
    Grow(thread.column_sums, strip_slots);
    Grow(thread.column_rows, strip_slots);
  }
}

void Attention::Run(std::span<const AttentionTask> tasks) {
  PrepareThreads(tasks);
  // Decoding sequences go together, as many as keep their probabilities in cache.
  decoding_.clear();
  int64_t probabilities = 0;
  for (const AttentionTask& task : tasks) {
    if (task.rows != 1) continue;
    const int64_t more = WantsMass(task) ? heads_ * Blocks(task.live) * kBlockSlots : 0;
    if (probabilities > 0 && probabilities + more > kMassFloats) {
      RunDecode();
      decoding_.clear();
      probabilities = 0;
    }
    decoding_.push_back({.task = &task, .blocks = Blocks(task.live), .first_probability = probabilities, .mass = WantsMass(task)});
    probabilities += more;
  }
  if (!decoding_.empty()) RunDecode();
  for (const AttentionTask& task : tasks) {
    if (task.rows > 1) RunPrefill(task);
  }
}

// ---------------------------------------------------------------------------------------------------------- decode

void Attention::RunDecode() {
  int64_t items = 0, probabilities = 0;
  bool merge = false;
  for (Decode& decode : decoding_) {
    decode.first_item = items;
    items += layout_.kv_heads * decode.blocks;
    if (decode.mass) probabilities = decode.first_probability + heads_ * decode.blocks * kBlockSlots;
    merge |= decode.mass || decode.blocks > 1;
  }
  Grow(partial_mixed_, items * group_ * layout_.padded_size());
  Grow(partial_maximum_, items * group_);
  Grow(partial_sum_, items * group_);
  Grow(totals_, static_cast<int64_t>(decoding_.size()) * heads_ * 2);
  Grow(probabilities_, probabilities);

  team_.For(items, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t item = begin; item < end; ++item) {
      const auto after = std::upper_bound(decoding_.begin(), decoding_.end(), item,
                                          [](int64_t i, const Decode& d) { return i < d.first_item; });
      const Decode& decode = *(after - 1);
      const int64_t local = item - decode.first_item;
      DecodeBlock(decode, local / decode.blocks, local % decode.blocks, threads_[thread]);
    }
  });
  if (!merge) return;
  const auto count = static_cast<int64_t>(decoding_.size());
  team_.For(count * layout_.kv_heads, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) MergeBlocks(i / layout_.kv_heads, i % layout_.kv_heads);
  });
  for (int64_t i = 0; i < count; ++i) {
    if (!decoding_[i].mass) continue;
    team_.For(decoding_[i].blocks, 4, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t block = begin; block < end; ++block) DecodeMass(i, block, threads_[thread]);
    });
  }
}

// What the slots of one block weigh: `log_weights` to add to logits, or `factors` for logits and values.
void Attention::BlockWeights(const AttentionTask& task, int64_t block, int64_t slots, Thread& thread,
                             const float*& log_weights, const float*& factors) const {
  using Form = base::AttentionWeighting::Form;
  log_weights = factors = nullptr;
  if (task.weighting.form == Form::kNone) return;
  const int64_t first = block * kBlockSlots;
  kernels_.log_weights(task.strength + first, task.last_reset + first, task.now, static_cast<float>(task.weighting.time_step),
                       static_cast<float>(std::log(task.weighting.floor)),
                       static_cast<float>(std::log(task.weighting.ceiling)), slots, thread.weights.data());
  if (task.weighting.form == Form::kLogBias) {
    log_weights = thread.weights.data();
  } else {
    kernels_.exponentials(thread.weights.data(), slots, thread.factors.data());
    factors = thread.factors.data();
  }
}

// What probabilities are multiplied by before they meet the stored values: nothing, factors of KV_SCALE, scales of int8.
const float* Attention::ValueFactors(const KvBlock& block, const float* factors, Thread& thread) const {
  if (layout_.form != KvForm::kInt8) return factors;
  for (int64_t slot = 0; slot < block.slots; slot += layout_.page_tokens) {
    const float* scales = layout_.ValueScales(block.pages[slot / layout_.page_tokens], block.head);
    const int64_t n = std::min(layout_.page_tokens, kBlockSlots - slot);
    for (int64_t i = 0; i < n; ++i) {
      thread.factors[slot + i] = factors != nullptr && slot + i < block.slots ? scales[i] * factors[slot + i] : scales[i];
    }
  }
  return thread.factors.data();
}

void Attention::MixRows(const KvBlock& block, const float* probabilities, const float* factors, int64_t rows, float* mixed,
                        Thread& thread) const {
  const int64_t row_bytes = kernels_.kv_row_bytes(layout_.form, kBlockSlots);
  const int64_t used = (block.slots + 15) / 16 * 16;
  for (int64_t r = 0; r < rows; ++r) {
    kernels_.prepare_kv_row(layout_.form, probabilities + r * kBlockSlots, factors, used,
                            thread.probabilities.data() + r * row_bytes);
  }
  kernels_.mix(layout_, block, thread.probabilities.data(), rows, mixed);
}

void Attention::DecodeBlock(const Decode& decode, int64_t head, int64_t block, Thread& thread) {
  const AttentionTask& task = *decode.task;
  const KvBlock kv = BlockOf(layout_, task.pages, head, block, task.live);
  const int64_t size = layout_.padded_size(), item = decode.first_item + head * decode.blocks + block;
  const int64_t query_bytes = kernels_.kv_row_bytes(layout_.form, layout_.head_size);
  for (int64_t g = 0; g < group_; ++g) {
    kernels_.prepare_kv_row(layout_.form, task.queries + (head * group_ + g) * layout_.head_size, nullptr, layout_.head_size,
                            thread.queries.data() + g * query_bytes);
  }
  float* const scores =
      decode.mass ? &probabilities_[decode.first_probability + (head * decode.blocks + block) * group_ * kBlockSlots]
                  : thread.scores.data();
  kernels_.scores(layout_, kv, thread.queries.data(), group_, scores);
  const float *log_weights, *factors;
  BlockWeights(task, block, kv.slots, thread, log_weights, factors);
  float *maximum = &partial_maximum_[item * group_], *sum = &partial_sum_[item * group_];
  for (int64_t g = 0; g < group_; ++g) {
    kernels_.block_softmax(scores + g * kBlockSlots, kv.slots, log_weights, factors, &maximum[g], &sum[g]);
  }
  float* mixed = &partial_mixed_[item * group_ * size];
  MixRows(kv, scores, ValueFactors(kv, factors, thread), group_, mixed, thread);
  if (decode.blocks > 1 || decode.mass) return;
  for (int64_t g = 0; g < group_; ++g) {
    float* out = task.out + (head * group_ + g) * layout_.head_size;
    for (int64_t d = 0; d < layout_.head_size; ++d) out[d] = mixed[g * size + d] / sum[g];
  }
}

void Attention::MergeBlocks(int64_t index, int64_t head) {
  const Decode& decode = decoding_[index];
  const int64_t size = layout_.padded_size();
  for (int64_t g = 0; g < group_; ++g) {
    const int64_t h = head * group_ + g;
    float maximum = kNothing, sum = 0;
    float* merged = &partial_mixed_[((decode.first_item + head * decode.blocks) * group_ + g) * size];  // of block 0
    for (int64_t block = 0; block < decode.blocks; ++block) {
      const int64_t row = (decode.first_item + head * decode.blocks + block) * group_ + g;
      if (block == 0) {
        maximum = partial_maximum_[row];
        sum = partial_sum_[row];
      } else {
        Merge(partial_maximum_[row], partial_sum_[row], &partial_mixed_[row * size], size, maximum, sum, merged);
      }
    }
    float* out = decode.task->out + h * layout_.head_size;
    for (int64_t d = 0; d < layout_.head_size; ++d) out[d] = merged[d] / sum;
    totals_[(index * heads_ + h) * 2] = maximum;
    totals_[(index * heads_ + h) * 2 + 1] = sum;
  }
}

void Attention::DecodeMass(int64_t index, int64_t block, Thread& thread) const {
  const Decode& decode = decoding_[index];
  const AttentionTask& task = *decode.task;
  float* mass = task.last_row_mass + block * kBlockSlots;
  const int64_t slots = std::min(kBlockSlots, task.live - block * kBlockSlots), used = (slots + 15) / 16 * 16;
  std::fill_n(mass, used, 0.0f);
  for (int64_t head = 0; head < layout_.kv_heads; ++head) {
    const int64_t item = head * decode.blocks + block;
    for (int64_t g = 0; g < group_; ++g) {
      const float* total = &totals_[(index * heads_ + head * group_ + g) * 2];  // maximum, sum
      thread.shares[g] = std::exp(partial_maximum_[(decode.first_item + item) * group_ + g] - total[0]) /
                         (total[1] * static_cast<float>(heads_));
    }
    kernels_.add_scaled_rows(&probabilities_[decode.first_probability + item * group_ * kBlockSlots], thread.shares.data(), group_,
                             used, mass);
  }
  if (task.first_mass_row > 0) return;
  const int64_t first = block * kBlockSlots;
  kernels_.add_columns(mass, task.columns.threshold, 0, slots, task.columns.sums + first, task.columns.last_strong_row + first);
}

// --------------------------------------------------------------------------------------------------------- prefill

void Attention::RunPrefill(const AttentionTask& task) {
  const bool columns = task.first_mass_row < task.rows;
  if (columns) {
    for (Thread& thread : threads_) {
      std::fill_n(thread.column_sums.begin(), task.live, 0);
      std::fill_n(thread.column_rows.begin(), task.live, -1);
    }
  }
  const int64_t tiles = (task.rows + kTileTokens - 1) / kTileTokens;
  team_.For(tiles, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t first = tile * kTileTokens;
      RunRows(task, first, std::min(kTileTokens, task.rows - first), threads_[thread]);
    }
  });
  if (!columns) return;
  team_.For(task.live, 1024, [&](int64_t begin, int64_t end, int) {
    for (const Thread& thread : threads_) {
      for (int64_t i = begin; i < end; ++i) {
        task.columns.sums[i] += thread.column_sums[i];
        task.columns.last_strong_row[i] = std::max(task.columns.last_strong_row[i], thread.column_rows[i]);
      }
    }
  });
}

void Attention::RunRows(const AttentionTask& task, int64_t first, int64_t count, Thread& thread) {
  const int64_t older = task.live - task.rows, seen = older + first + count;  // by the last of these rows
  const int64_t blocks = Blocks(seen), size = layout_.padded_size(), rows = group_ * count;
  const int64_t query_bytes = kernels_.kv_row_bytes(layout_.form, layout_.head_size);
  const bool mass = first + count > task.first_mass_row || (task.last_row_mass != nullptr && first + count == task.rows);
  if (mass) std::fill_n(thread.mass.begin(), count * blocks * kBlockSlots, 0.0f);
  for (int64_t head = 0; head < layout_.kv_heads; ++head) {
    for (int64_t row = 0; row < rows; ++row) {
      const float* query = task.queries + (first + row / group_) * task.query_stride +
                           (head * group_ + row % group_) * layout_.head_size;
      kernels_.prepare_kv_row(layout_.form, query, nullptr, layout_.head_size, thread.queries.data() + row * query_bytes);
    }
    std::fill_n(thread.maximum.begin(), rows, kNothing);
    std::fill_n(thread.sum.begin(), rows, 0.0f);
    std::fill_n(thread.merged.begin(), rows * size, 0.0f);
    for (int64_t block = 0; block < blocks; ++block) {
      const KvBlock kv = BlockOf(layout_, task.pages, head, block, seen);
      float* const scores = mass ? &thread.strip[block * rows * kBlockSlots] : thread.scores.data();
      kernels_.scores(layout_, kv, thread.queries.data(), rows, scores);
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t visible = older + first + row / group_ + 1 - block * kBlockSlots;
        kernels_.block_softmax(scores + row * kBlockSlots, std::clamp<int64_t>(visible, 0, kv.slots), nullptr, nullptr,
                               &thread.block_maximum[row], &thread.block_sum[row]);
        if (mass) thread.strip_maximum[block * rows + row] = thread.block_maximum[row];
      }
      MixRows(kv, scores, ValueFactors(kv, nullptr, thread), rows, thread.mixed.data(), thread);
      for (int64_t row = 0; row < rows; ++row) {
        Merge(thread.block_maximum[row], thread.block_sum[row], &thread.mixed[row * size], size, thread.maximum[row],
              thread.sum[row], &thread.merged[row * size]);
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      float* out = task.out + (first + row / group_) * task.out_stride + (head * group_ + row % group_) * layout_.head_size;
      for (int64_t d = 0; d < layout_.head_size; ++d) out[d] = thread.merged[row * size + d] / thread.sum[row];
    }
    if (mass) AddHeadsMass(rows, blocks, thread);
  }
  if (mass) TakeRowsMass(task, first, count, blocks, thread);
}

// mass of each row += its heads' probabilities / H.
void Attention::AddHeadsMass(int64_t rows, int64_t blocks, Thread& thread) const {
  for (int64_t block = 0; block < blocks; ++block) {
    for (int64_t first = 0; first < rows; first += group_) {
      for (int64_t row = first; row < first + group_; ++row) {
        thread.shares[row - first] = std::exp(thread.strip_maximum[block * rows + row] - thread.maximum[row]) /
                                     (thread.sum[row] * static_cast<float>(heads_));
      }
      kernels_.add_scaled_rows(&thread.strip[(block * rows + first) * kBlockSlots], thread.shares.data(), group_, kBlockSlots,
                               &thread.mass[(first / group_ * blocks + block) * kBlockSlots]);
    }
  }
}

void Attention::TakeRowsMass(const AttentionTask& task, int64_t first, int64_t count, int64_t blocks, Thread& thread) const {
  const int64_t older = task.live - task.rows;
  for (int64_t r = std::max<int64_t>(first, task.first_mass_row); r < first + count; ++r) {
    kernels_.add_columns(&thread.mass[(r - first) * blocks * kBlockSlots], task.columns.threshold, static_cast<int32_t>(r),
                         older + r + 1, thread.column_sums.data(), thread.column_rows.data());
  }
  if (task.last_row_mass != nullptr && first + count == task.rows) {
    std::copy_n(&thread.mass[(count - 1) * blocks * kBlockSlots], task.live, task.last_row_mass);
  }
}

}  // namespace ebbinghaus::kernels
