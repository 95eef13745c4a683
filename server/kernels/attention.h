// Attention over slots: softmax(q K^T) V for any number of sequences at once, with the memory modes' weights applied on
// the way in and the attention mass taken on the way out.
//
// Slots are read in blocks of kBlockSlots. A block's softmax is taken by itself, and blocks are merged in their order
// (Milakov and Gimelshein 2018; Dao et al. 2022). Decode splits a sequence's blocks among the threads, prefill its rows;
// since both compute blocks and merge them alike, a row's result is the same bit for bit whichever way it went.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "server/base/ids.h"
#include "server/base/retention.h"
#include "server/kernels/kernels.h"
#include "server/kernels/thread_team.h"

namespace ebbinghaus::kernels {

// Column sums of attention mass over several rows, in units of kMassUnit.
struct MassColumns {
  int64_t* sums = nullptr;             // [N], added to
  int32_t* last_strong_row = nullptr;  // [N], raised to the task's last row whose mass reached `threshold`
  float threshold = 0;
};

// One sequence's new rows in one layer. The rows are the last slots; each sees the older slots and those up to its own.
struct AttentionTask {
  std::byte* const* pages = nullptr;
  int64_t live = 0;                // N, the new rows included
  int64_t rows = 0;                // T
  const float* queries = nullptr;  // [T, H * D], rotated, times 1 / sqrt(D)
  int64_t query_stride = 0;        // between rows, in floats
  float* out = nullptr;            // [T, H * D]
  int64_t out_stride = 0;

  // Only with one row: how its slots weigh (spec 4.2).
  base::AttentionWeighting weighting = {};
  const float* strength = nullptr;         // [N]
  const base::Tick* last_reset = nullptr;  // [N]
  base::Tick now = 0;

  // Mass: mean over the query heads of the probability, before values are scaled (spec 3).
  int64_t first_mass_row = INT64_MAX;  // rows from here on are summed in `columns`
  MassColumns columns = {};
  // [N rounded up to kBlockSlots], or null when nobody wants it. Required where the task's only row is summed.
  float* last_row_mass = nullptr;
};

// Scratch memory, grown when a larger task comes and kept.
class Attention {
 public:
  // query_heads is a multiple of layout.kv_heads. `kernels` and `team` outlive this.
  Attention(const KernelTable* kernels, ThreadTeam* team, const KvLayout& layout, int64_t query_heads);

  void Run(std::span<const AttentionTask> tasks);

 private:
  struct Thread {
    std::vector<std::byte> queries, probabilities;  // prepared
    std::vector<float> scores, mixed, merged;
    std::vector<float> maximum, sum;              // running, per row
    std::vector<float> block_maximum, block_sum;  // of the block at hand
    std::vector<float> weights, factors;
    std::vector<float> shares;  // of a kv head's query heads in the mass, which their blocks are multiplied by
    // Of rows whose mass is wanted: every block's probabilities and maxima of one kv head, and the mass so far.
    std::vector<float> strip, strip_maximum, mass;
    std::vector<int64_t> column_sums;
    std::vector<int32_t> column_rows;
  };
  // A decoding task and where its partial results lie in the shared buffers.
  struct Decode {
    const AttentionTask* task = nullptr;
    int64_t blocks = 0, first_item = 0, first_probability = 0;
    bool mass = false;
  };

  void PrepareThreads(std::span<const AttentionTask> tasks);
  void BlockWeights(const AttentionTask& task, int64_t block, int64_t slots, Thread& thread, const float*& log_weights,
                    const float*& factors) const;
  const float* ValueFactors(const KvBlock& block, const float* factors, Thread& thread) const;
  void MixRows(const KvBlock& block, const float* probabilities, const float* factors, int64_t rows, float* mixed,
               Thread& thread) const;

  void RunDecode();
  void DecodeBlock(const Decode& decode, int64_t head, int64_t block, Thread& thread);
  void MergeBlocks(int64_t index, int64_t head);
  void DecodeMass(int64_t index, int64_t block, Thread& thread) const;

  void RunPrefill(const AttentionTask& task);
  void RunRows(const AttentionTask& task, int64_t first, int64_t count, Thread& thread);
  void AddHeadsMass(int64_t rows, int64_t blocks, Thread& thread) const;
  void TakeRowsMass(const AttentionTask& task, int64_t first, int64_t count, int64_t blocks, Thread& thread) const;

  const KernelTable& kernels_;
  ThreadTeam& team_;
  const KvLayout layout_;
  const int64_t heads_, group_;
  std::vector<Thread> threads_;
  std::vector<Decode> decoding_;
  std::vector<float> partial_mixed_, partial_maximum_, partial_sum_;  // [item][group] (x padded head size)
  std::vector<float> totals_;                                         // [decoding task][H] (maximum, sum)
  std::vector<float> probabilities_;                                  // [task with mass][K][block][group][kBlockSlots]
};

}  // namespace ebbinghaus::kernels
