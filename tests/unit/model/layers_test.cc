#include "server/model/layers.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include "gtest/gtest.h"

namespace ebbinghaus::model {
namespace {

using Form = base::AttentionWeighting::Form;

constexpr int64_t kHeads = 6, kKvHeads = 2, kGroup = kHeads / kKvHeads, kSize = 8;

at::Tensor RandomTensor(at::IntArrayRef shape, std::mt19937& random) {
  at::Tensor values = at::empty(shape, at::kFloat);
  std::normal_distribution<float> normal;
  for (int64_t i = 0; i < values.numel(); ++i) values.data_ptr<float>()[i] = normal(random);
  return values;
}

// Weighs slots by their age and keeps what it is handed.
class FakeMemory final : public MemoryMediator {
 public:
  SlotMemory Weights(uint32_t) override {
    return {{.form = form, .time_step = 0.01, .floor = 0.3, .ceiling = 0.9}, strength.data(), last_reset.data(), 100};
  }
  WantedMass Wanted(uint32_t) override { return wanted; }
  void ObservedRows(uint32_t, absl::Span<const double> mass_sum, absl::Span<const int32_t> last_strong_row) override {
    sums.assign(mass_sum.begin(), mass_sum.end());
    strong_rows.assign(last_strong_row.begin(), last_strong_row.end());
  }
  void ObservedLastRow(uint32_t, absl::Span<const float> mass) override { last_row.assign(mass.begin(), mass.end()); }

  // Of live slots with random pasts; returns the weights that follow.
  std::vector<float> Age(int64_t live, std::mt19937& random) {
    std::vector<float> weights;
    for (int64_t j = 0; j < live; ++j) {
      strength.push_back(0.5f + 0.001f * static_cast<float>(random() % 1000));
      last_reset.push_back(static_cast<base::Tick>(random() % 100));
      const double retention = std::exp(-0.01 * (100 - last_reset[j]) / strength[j]);
      weights.push_back(static_cast<float>(std::min(std::max(retention, 0.3), 0.9)));
    }
    return weights;
  }

  Form form = Form::kNone;
  WantedMass wanted;
  std::vector<float> strength;
  std::vector<base::Tick> last_reset;
  std::vector<double> sums;
  std::vector<int32_t> strong_rows;
  std::vector<float> last_row;
};

struct Naive {
  std::vector<float> output;  // [T, H * D]
  std::vector<float> mass;    // [T, N]
};

// The definition, one head and one row at a time, in double.
Naive NaiveAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, Form form,
                     const std::vector<float>& weights) {
  const int64_t rows = q.size(0), live = k.size(0);
  const auto at = [](const at::Tensor& t, int64_t i, int64_t h, int64_t d) {
    return static_cast<double>(t.data_ptr<float>()[(i * t.size(1) + h) * t.size(2) + d]);
  };
  Naive naive{std::vector<float>(rows * kHeads * kSize), std::vector<float>(rows * live)};
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t visible = live - rows + r + 1;
    for (int64_t h = 0; h < kHeads; ++h) {
      std::vector<double> p(visible);
      double total = 0;
      for (int64_t j = 0; j < visible; ++j) {
        double score = 0;
        for (int64_t d = 0; d < kSize; ++d) score += at(q, r, h, d) * at(k, j, h / kGroup, d);
        score /= std::sqrt(static_cast<double>(kSize));
        if (form == Form::kKvScale) score *= weights[j];
        p[j] = std::exp(score) * (form == Form::kLogBias ? weights[j] : 1.0);  // I13: p'_j = w_j p_j / sum
        total += p[j];
      }
      for (int64_t j = 0; j < visible; ++j) {
        naive.mass[r * live + j] += static_cast<float>(p[j] / total / kHeads);
        const double scale = form == Form::kKvScale ? weights[j] : 1.0;
        for (int64_t d = 0; d < kSize; ++d) {
          naive.output[(r * kHeads + h) * kSize + d] += static_cast<float>(p[j] / total * scale * at(v, j, h / kGroup, d));
        }
      }
    }
  }
  return naive;
}

TEST(AttendOverSlots, EqualsTheDefinitionForEveryFormRowCountAndPageBorder) {
  std::mt19937 random(1);
  for (int64_t live : {1, 2, 7, 8, 9, 40}) {
    for (int64_t rows : {int64_t{1}, std::min<int64_t>(live, 5)}) {
      for (Form form : {Form::kNone, Form::kLogBias, Form::kKvScale}) {
        cache::PagePool pool({.kv_heads = kKvHeads, .head_size = kSize, .page_tokens = 8}, 1 << 20);
        cache::LayerCache layer(&pool);
        const at::Tensor q = RandomTensor({rows, kHeads, kSize}, random);
        const at::Tensor k = RandomTensor({live, kKvHeads, kSize}, random);
        const at::Tensor v = RandomTensor({live, kKvHeads, kSize}, random);
        ASSERT_TRUE(layer.Append(k, v).ok());
        FakeMemory memory;
        memory.form = form;
        memory.wanted = {.first_summed_row = 0, .strong = 0.2f, .last_row = true};
        const Naive naive = NaiveAttention(q, k, v, form, memory.Age(live, random));

        const at::Tensor out = AttendOverSlots(q, layer, 0, &memory);
        ASSERT_EQ(out.numel(), static_cast<int64_t>(naive.output.size()));
        for (int64_t i = 0; i < out.numel(); ++i) ASSERT_NEAR(out.data_ptr<float>()[i], naive.output[i], 1e-5);
        ASSERT_EQ(memory.last_row.size(), static_cast<size_t>(live));
        ASSERT_EQ(memory.sums.size(), static_cast<size_t>(live));
        for (int64_t j = 0; j < live; ++j) {
          double sum = 0;
          int32_t strong = -1;
          for (int64_t r = 0; r < rows; ++r) {
            sum += naive.mass[r * live + j];
            if (naive.mass[r * live + j] >= 0.2f) strong = static_cast<int32_t>(r);
          }
          ASSERT_NEAR(memory.sums[j], sum, 1e-6);
          ASSERT_EQ(memory.strong_rows[j], strong);
          ASSERT_NEAR(memory.last_row[j], naive.mass[(rows - 1) * live + j], 1e-6);
        }
      }
    }
  }
}

TEST(AttendOverSlots, PermutingSlotsChangesNothingBeyondRounding) {  // I9
  std::mt19937 random(2);
  const int64_t live = 20;
  const at::Tensor q = RandomTensor({1, kHeads, kSize}, random);
  const at::Tensor k = RandomTensor({live, kKvHeads, kSize}, random), v = RandomTensor({live, kKvHeads, kSize}, random);
  const auto run = [&](const at::Tensor& keys, const at::Tensor& values) {
    cache::PagePool pool({.kv_heads = kKvHeads, .head_size = kSize, .page_tokens = 8}, 1 << 20);
    cache::LayerCache layer(&pool);
    EXPECT_TRUE(layer.Append(keys, values).ok());
    return AttendOverSlots(q, layer, 0, nullptr);
  };
  const at::Tensor straight = run(k, v), flipped = run(k.flip(0), v.flip(0));
  for (int64_t i = 0; i < straight.numel(); ++i) {
    EXPECT_NEAR(straight.data_ptr<float>()[i], flipped.data_ptr<float>()[i], 1e-5);
  }
}

TEST(AttendOverSlots, HandsBackOnlyTheRowsAskedForAndEachSumsToOne) {
  std::mt19937 random(3);
  cache::PagePool pool({.kv_heads = kKvHeads, .head_size = kSize, .page_tokens = 8}, 1 << 20);
  cache::LayerCache layer(&pool);
  ASSERT_TRUE(layer.Append(RandomTensor({10, kKvHeads, kSize}, random), RandomTensor({10, kKvHeads, kSize}, random)).ok());
  FakeMemory memory;
  memory.wanted.first_summed_row = 3;
  AttendOverSlots(RandomTensor({5, kHeads, kSize}, random), layer, 0, &memory);
  double total = 0;
  for (double sum : memory.sums) total += sum;
  EXPECT_NEAR(total, 2, 1e-6);
  EXPECT_TRUE(memory.last_row.empty());
  memory.sums.clear();
  memory.wanted = {};
  AttendOverSlots(RandomTensor({1, kHeads, kSize}, random), layer, 0, &memory);
  EXPECT_TRUE(memory.sums.empty() && memory.last_row.empty());
}

TEST(Rope, KeepsLengthsAndDependsOnDistanceOnly) {
  std::mt19937 random(4);
  const Rope rope({1.0f, 0.3f, 0.1f, 0.01f}, at::kCPU);
  const at::Tensor a = RandomTensor({1, 1, kSize}, random), b = RandomTensor({1, 1, kSize}, random);
  const auto dot = [&](int64_t pa, int64_t pb) {
    return (Rope::Rotate(a, rope.At(pa, 1)) * Rope::Rotate(b, rope.At(pb, 1))).sum().item<float>();
  };
  EXPECT_NEAR(dot(0, 0), (a * b).sum().item<float>(), 1e-5);
  EXPECT_NEAR(dot(17, 11), dot(106, 100), 1e-4);
  EXPECT_GT(std::abs(dot(17, 11) - dot(17, 12)), 1e-3);
}

TEST(RmsNorm, ScalesRowsToUnitRootMeanSquare) {
  std::mt19937 random(5);
  const at::Tensor x = RandomTensor({3, 16}, random) * 7;
  RmsNorm norm{.weight = at::empty({16}, at::kFloat).fill_(2.0f), .epsilon = 0};
  const at::Tensor y = norm(x);
  for (int64_t r = 0; r < 3; ++r) EXPECT_NEAR((y[r] * y[r]).mean().item<float>(), 4, 1e-4);
}

}  // namespace
}  // namespace ebbinghaus::model
