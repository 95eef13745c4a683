// From a checkpoint's tensors to packed matrices (kernels/weight_form.h): which form each takes, and the packing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/kernels/huge_buffer.h"
#include "server/kernels/packed_matrix.h"
#include "server/kernels/thread_team.h"
#include "server/model/checkpoint.h"

namespace ebbinghaus::model {

// What --weights asks for. kAuto keeps what the checkpoint holds: Q8_0, Q4_0 and Q4_1 without loss; Q4_K as int4 with
// minimum; Q5 and Q6 as int8 groups, whose step is finer; F32, F16 and BF16 as bf16.
enum class WeightChoice { kAuto, kF32, kBf16, kInt8, kInt4 };

// What a matrix is for, as far as its form depends on it.
enum class MatrixRole { kTable, kDown, kOther };  // embedding and head; the MLP's second matrix; all the rest

// The form a matrix takes. Under kInt4 tables stay int8 in groups, since every token goes through them. Under kInt8 the MLP's
// second matrix takes groups: its rows are the longest and the least even, and one scale for each of them costs almost all
// that int8 costs (docs/performance.md).
kernels::WeightForm FormFor(WeightChoice choice, TensorType stored, MatrixRole role);

// One layer input times several matrices: rows of all parts one after the other, merged into one matrix where their
// forms are the same.
struct PackedLinear {
  std::vector<kernels::PackedMatrix> parts;
  int64_t rows = 0, columns = 0;
};

// All matrices of a model, in one buffer of large pages. Immutable.
struct PackedWeights {
  struct Layer {
    PackedLinear query_key_value, output, gate_up, down;
    std::vector<float> input_norm, post_attention_norm, query_norm, key_norm;  // the last two may be empty
  };
  std::vector<Layer> layers;
  std::vector<float> norm;
  kernels::PackedMatrix embedding, head;  // the same where they are tied

  kernels::HugeBuffer buffer;
  std::vector<std::unique_ptr<std::vector<float>>> biases;

  uint64_t bytes() const;           // resident
  std::string form_name() const;    // of the layers' largest share, such as "int8-group32"
};

// What is called while weights are packed, on the same thread; may be empty.
struct PackingCalls {
  std::function<absl::Status(uint64_t bytes)> approve;  // first, with what PackedWeights::bytes() will be; an error ends it
  std::function<void(uint64_t done_bytes, uint64_t all_bytes)> progress;  // now and then
};

// Packs every tensor the decoder needs, `team` sharing the work; never holds more than the packed weights and one block of
// 16 rows per thread besides the mapped file.
// Errors: what Checkpoint::Find and `approve` say; ResourceExhausted when the system has no room.
absl::StatusOr<PackedWeights> PackWeights(const Checkpoint& checkpoint, WeightChoice choice, kernels::ThreadTeam& team,
                                          const PackingCalls& calls);

}  // namespace ebbinghaus::model
