#include "server/model/layers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/softmax.h>

namespace ebbinghaus::model {

at::Tensor Linear::operator()(const at::Tensor& x) const {
  return at::linear(x.to(weight.scalar_type()), weight, bias);
}

at::Tensor RmsNorm::operator()(const at::Tensor& x) const {
  const at::Tensor mean_square = (x * x).mean(-1, /*keepdim=*/true);
  return x * at::rsqrt(mean_square + epsilon) * weight;
}

Rope::Rope(const std::vector<float>& inverse_frequencies, at::Device device)
    : inverse_frequencies_(at::from_blob(const_cast<float*>(inverse_frequencies.data()),
                                         {static_cast<int64_t>(inverse_frequencies.size())}, at::kFloat)
                               .clone()
                               .to(device)) {}

Rope::Angles Rope::At(int64_t first, int64_t count) const {
  const at::Tensor positions = at::arange(first, first + count, inverse_frequencies_.options());
  const at::Tensor angles = at::outer(positions, inverse_frequencies_).unsqueeze(1);  // [T, 1, D / 2]
  return {angles.cos(), angles.sin()};
}

at::Tensor Rope::Rotate(const at::Tensor& x, const Angles& angles) {
  const int64_t half = x.size(-1) / 2;
  const at::Tensor a = x.narrow(-1, 0, half), b = x.narrow(-1, half, half);
  return at::cat({a * angles.cosine - b * angles.sine, b * angles.cosine + a * angles.sine}, -1);
}

namespace {

// Makes newborn columns invisible to the rows before them. scores: [K, G, T, N].
void MaskFuture(at::Tensor& scores) {
  const int64_t rows = scores.size(2), live = scores.size(3);
  if (rows == 1) return;
  const at::Tensor future = at::ones({rows, rows}, scores.options().dtype(at::kBool)).triu(1);
  scores.narrow(3, live - rows, rows).masked_fill_(future, -std::numeric_limits<float>::infinity());
}

// Mean over the query heads of the wanted rows. probabilities: [K, G, T, N].
void HandBackMass(const at::Tensor& probabilities, uint32_t layer_index, MemoryMediator& memory) {
  const WantedMass wanted = memory.Wanted(layer_index);
  const int64_t rows = probabilities.size(2), live = probabilities.size(3);
  const int64_t first = std::min(wanted.first_summed_row, wanted.last_row ? rows - 1 : rows);
  if (first >= rows) return;
  const at::Tensor mass =  // [rows - first, N]
      probabilities.narrow(2, first, rows - first).mean(at::IntArrayRef{0, 1}).to(at::kCPU).contiguous();
  const auto row = [&](int64_t r) { return mass.data_ptr<float>() + (r - first) * live; };
  if (wanted.first_summed_row < rows) {
    std::vector<double> sums(live, 0);
    std::vector<int32_t> last_strong_row(live, -1);
    for (int64_t r = wanted.first_summed_row; r < rows; ++r) {
      for (int64_t j = 0; j < live; ++j) {
        sums[j] += row(r)[j];
        if (row(r)[j] >= wanted.strong) last_strong_row[j] = static_cast<int32_t>(r);
      }
    }
    memory.ObservedRows(layer_index, sums, last_strong_row);
  }
  if (wanted.last_row) memory.ObservedLastRow(layer_index, absl::MakeConstSpan(row(rows - 1), live));
}

// The weights of one layer's slots: [N] fp32, undefined with Form::kNone.
at::Tensor SlotWeights(const SlotMemory& slots, int64_t live) {
  if (slots.weighting.form == base::AttentionWeighting::Form::kNone) return {};
  at::Tensor weights = at::empty({live}, at::kFloat);
  for (int64_t j = 0; j < live; ++j) {
    weights.data_ptr<float>()[j] =
        static_cast<float>(slots.weighting.Weight(slots.now, slots.last_reset[j], slots.strength[j]));
  }
  return weights;
}

}  // namespace

at::Tensor AttendOverSlots(const at::Tensor& queries, const cache::LayerCache& layer, uint32_t layer_index,
                           MemoryMediator* memory) {
  using Form = base::AttentionWeighting::Form;
  const int64_t rows = queries.size(0), heads = queries.size(1), size = queries.size(2), live = layer.live();
  const int64_t kv_heads = layer.Keys(0).size(0), group = heads / kv_heads;
  const at::Tensor q = (queries * (1.0 / std::sqrt(static_cast<double>(size))))
                           .view({rows, kv_heads, group, size})
                           .permute({1, 2, 0, 3})
                           .reshape({kv_heads, group * rows, size});

  // Page by page, so that K and V are read where they lie, and a bf16 cache is widened a page at a time.
  std::vector<at::Tensor> by_page;
  for (size_t page = 0; page < layer.page_count(); ++page) {
    by_page.push_back(at::bmm(q, layer.Keys(page).to(at::kFloat).transpose(1, 2)));
  }
  at::Tensor scores = at::cat(by_page, -1).view({kv_heads, group, rows, live});

  const SlotMemory slots = memory ? memory->Weights(layer_index) : SlotMemory{};
  at::Tensor weights = SlotWeights(slots, live);
  if (weights.defined()) weights = weights.to(queries.device());
  if (slots.weighting.form == Form::kLogBias) scores.add_(weights.log());
  if (slots.weighting.form == Form::kKvScale) scores.mul_(weights);
  MaskFuture(scores);
  at::Tensor probabilities = at::softmax(scores, -1);
  if (memory) HandBackMass(probabilities, layer_index, *memory);
  if (slots.weighting.form == Form::kKvScale) probabilities = probabilities * weights;

  const at::Tensor p = probabilities.view({kv_heads, group * rows, live});
  at::Tensor mixed;  // [K, G * T, D]
  for (size_t page = 0, at = 0; page < layer.page_count(); ++page) {
    const at::Tensor values = layer.Values(page).to(at::kFloat);
    const at::Tensor part = at::bmm(p.narrow(2, static_cast<int64_t>(at), values.size(1)), values);
    mixed = page == 0 ? part : mixed.add_(part);
    at += values.size(1);
  }
  return mixed.view({kv_heads, group, rows, size}).permute({2, 0, 1, 3}).reshape({rows, heads * size});
}

}  // namespace ebbinghaus::model
