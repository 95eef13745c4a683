#include "tests/unit/kernels/attention_scene.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "server/kernels/half.h"

namespace ebbinghaus::kernels {

Weighting RandomWeighting(base::AttentionWeighting::Form form, int64_t live, uint32_t seed) {
  std::mt19937 random(seed);
  Weighting w;
  w.weighting.form = form;
  w.weighting.time_step = 0.02 + 0.01 * static_cast<double>(random() % 10);
  w.weighting.floor = random() % 2 == 0 ? 0.8 : 0.05;
  w.weighting.ceiling = random() % 2 == 0 ? 1 : 0.97;
  w.now = 500;
  w.strength = Random(live, seed, 5);
  for (float& s : w.strength) s = std::fabs(s) + 1;
  for (int64_t i = 0; i < live; ++i) {
    w.last_reset.push_back(static_cast<base::Tick>(500 - random() % 200));
  }
  return w;
}

Scene::Scene(const Shape& shape, uint32_t seed, float sharpness) : shape_(shape) {
  const int64_t n = shape.live, kv_width = shape.kv_heads * shape.head_size;
  keys_ = Random(n * kv_width, seed);
  values_ = Random(n * kv_width, seed + 1);
  // Numbers in [-1, 1] have variance 1/3, so a product of two has 1/9.
  const float size = 3 * sharpness / std::sqrt(static_cast<float>(shape.head_size));
  queries_ = Random(n * shape.query_stride(), seed + 2, size);
  stored_keys_.resize(keys_.size());
  stored_values_.resize(values_.size());
  memory_.resize((n + shape.page_tokens - 1) / shape.page_tokens,
                 std::vector<std::byte>(shape.layout().page_bytes()));
  for (std::vector<std::byte>& page : memory_) pages_.push_back(page.data());
  for (int64_t slot = 0; slot < n; ++slot) Store(slot);
}

void Scene::Store(int64_t slot) {
  const KvLayout layout = shape_.layout();
  for (int64_t head = 0; head < shape_.kv_heads; ++head) {
    const int64_t at = (slot * shape_.kv_heads + head) * shape_.head_size;
    std::byte* page = pages_[slot / shape_.page_tokens];
    const int64_t in_page = slot % shape_.page_tokens;
    StoreToken(layout, page, head, in_page, &keys_[at], &values_[at]);
    LoadToken(layout, page, head, in_page, &stored_keys_[at], &stored_values_[at]);
  }
}

void Scene::Permute(const std::vector<int64_t>& order) {
  const std::vector<float> keys = keys_, values = values_;
  const int64_t width = shape_.kv_heads * shape_.head_size;
  for (int64_t slot = 0; slot < shape_.live; ++slot) {
    std::copy_n(&keys[order[slot] * width], width, &keys_[slot * width]);
    std::copy_n(&values[order[slot] * width], width, &values_[slot * width]);
    Store(slot);
  }
}

AttentionTask Scene::Task(int64_t end, int64_t rows, Result& result, int64_t first_mass_row) const {
  result.out.assign(rows * shape_.out_stride(), NAN);
  result.mass.assign((end + kBlockSlots - 1) / kBlockSlots * kBlockSlots, NAN);
  result.sums.assign(end, 0);
  result.strong.assign(end, -1);
  AttentionTask task;
  task.pages = pages_.data();
  task.live = end;
  task.rows = rows;
  task.queries = &queries_[(end - rows) * shape_.query_stride()];
  task.out = result.out.data();
  task.query_stride = shape_.query_stride();
  task.out_stride = shape_.out_stride();
  task.first_mass_row = first_mass_row;
  task.columns = {result.sums.data(), result.strong.data(), kThreshold};
  task.last_row_mass = result.mass.data();
  return task;
}

AttentionTask Scene::WeightedTask(const Weighting& weighting, Result& result) const {
  AttentionTask task = Task(shape_.live, 1, result);
  task.weighting = weighting.weighting;
  task.strength = weighting.strength.data();
  task.last_reset = weighting.last_reset.data();
  task.now = weighting.now;
  return task;
}

Result Scene::RunAlone(const KernelTable& table, int64_t end, int64_t rows,
                       int64_t first_mass_row) const {
  ThreadTeam team(1);
  Attention attention(&table, &team, shape_.layout(), shape_.heads());
  Result result;
  const AttentionTask task = Task(end, rows, result, first_mass_row);
  attention.Run({&task, 1});
  result.mass.resize(end);
  return result;
}

Reference Scene::Naive(const KernelTable& table, int64_t row, base::AttentionWeighting::Form form,
                       const std::vector<double>& weights) const {
  using Form = base::AttentionWeighting::Form;
  const int64_t size = shape_.head_size, seen = row + 1;
  const bool narrow = shape_.form == KvForm::kBf16 && RoundsActivationsToBf16(table);
  Reference r{std::vector<double>(shape_.width()), std::vector<double>(seen)};
  std::vector<double> p(seen);
  for (int64_t h = 0; h < shape_.heads(); ++h) {
    const int64_t head = h / shape_.group;
    const float* first = &queries_[row * shape_.query_stride() + h * size];
    std::vector<float> query(first, first + size);
    if (narrow) {
      for (float& q : query) q = Bf16ToFloat(FloatToBf16(q));
    }
    double largest = -INFINITY, sum = 0;
    for (int64_t slot = 0; slot < seen; ++slot) {
      const float* key = &stored_keys_[(slot * shape_.kv_heads + head) * size];
      double logit = 0;
      for (int64_t d = 0; d < size; ++d) logit += double{query[d]} * key[d];
      if (form == Form::kLogBias) logit += std::log(weights[slot]);
      if (form == Form::kKvScale) logit *= weights[slot];
      p[slot] = logit;
      largest = std::max(largest, logit);
    }
    for (double& x : p) sum += x = std::exp(x - largest);
    for (int64_t slot = 0; slot < seen; ++slot) {
      p[slot] /= sum;
      r.mass[slot] += p[slot] / static_cast<double>(shape_.heads());
      const float* value = &stored_values_[(slot * shape_.kv_heads + head) * size];
      const double scaled = p[slot] * (form == Form::kKvScale ? weights[slot] : 1);
      for (int64_t d = 0; d < size; ++d) r.out[h * size + d] += scaled * value[d];
    }
  }
  return r;
}

}  // namespace ebbinghaus::kernels
