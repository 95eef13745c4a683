#include "server/kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "tests/unit/kernels/attention_scene.h"

namespace ebbinghaus::kernels {
namespace {

using WeightingForm = base::AttentionWeighting::Form;

constexpr int64_t kLive[] = {1, 3, 15, 16, 17, 31, 32, 33, 255, 256, 257, 1000};
constexpr int64_t kRows[] = {1, 2, 7, 8, 9, 33};
constexpr int64_t kGroups[] = {1, 2, 7};
constexpr double kMassTolerance = 5e-6;  // relative

class AttentionTest : public testing::TestWithParam<std::tuple<const KernelTable*, KvForm>> {
 protected:
  const KernelTable& table() const { return *std::get<0>(GetParam()); }
  KvForm form() const { return std::get<1>(GetParam()); }

  void ExpectEqual(const Reference& expected, const float* out, const float* mass) const;
};
INSTANTIATE_TEST_SUITE_P(, AttentionTest,
                         testing::Combine(testing::ValuesIn(Tables()),
                                          testing::Values(KvForm::kF32, KvForm::kBf16,
                                                          KvForm::kInt8)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)->name) + "_" +
                                  std::string(Name(std::get<1>(info.param)));
                         });

testing::AssertionResult SameResult(const Result& a, const Result& b) {
  const auto seen = static_cast<int64_t>(a.sums.size());
  if (auto same = SameBits(a.out, b.out); !same) return same << " in the output";
  if (auto same = SameBits(a.mass.data(), b.mass.data(), seen); !same)
    return same << " in the mass";
  if (auto same = SameBits(a.sums, b.sums); !same) return same << " in the column sums";
  if (auto same = SameBits(a.strong, b.strong); !same) return same << " in the strong rows";
  return testing::AssertionSuccess();
}

void AttentionTest::ExpectEqual(const Reference& expected, const float* out,
                                const float* mass) const {
  const double tolerance = OutputTolerance(table(), form());
  for (size_t i = 0; i < expected.out.size(); ++i)
    ASSERT_NEAR(out[i], expected.out[i], tolerance) << i;
  if (mass == nullptr) return;
  double total = 0;
  for (size_t i = 0; i < expected.mass.size(); ++i) {
    total += mass[i];
    ASSERT_NEAR(mass[i], expected.mass[i], kMassTolerance * expected.mass[i] + 1e-12)
        << "slot " << i;
  }
  ASSERT_NEAR(total, 1, 2e-6);
}

// Every shape, rows and columns of mass included, by one thread against the reference and by more
// threads against one. The scratch memory serves all of one layout in turn.
TEST_P(AttentionTest, EqualsTheReferenceForEveryShapeAndNumberOfThreads) {
  ThreadTeam one(1), two(2), three(3);
  for (const int64_t group : kGroups) {
    std::vector<std::unique_ptr<Attention>> attentions;
    Shape shape{.form = form(), .group = group, .head_size = group == 2 ? 20 : 8};
    if (group == 7) shape.kv_heads = 1;
    for (ThreadTeam* team : {&one, &two, &three}) {
      attentions.push_back(
          std::make_unique<Attention>(&table(), team, shape.layout(), shape.heads()));
    }
    for (const int64_t live : kLive) {
      shape.live = live;
      const Scene scene(shape, static_cast<uint32_t>(live));
      for (const int64_t rows : kRows) {
        if (rows > live) continue;
        SCOPED_TRACE(testing::Message() << rows << " rows of " << live << ", group " << group);
        std::vector<Result> results(3);
        for (size_t i = 0; i < 3; ++i) {
          const AttentionTask task = scene.Task(live, rows, results[i]);
          attentions[i]->Run({&task, 1});
        }
        std::vector<double> sums(live);
        for (int64_t r = 0; r < rows; ++r) {
          const Reference expected = scene.Naive(table(), live - rows + r);
          ASSERT_NO_FATAL_FAILURE(ExpectEqual(expected, &results[0].out[r * shape.out_stride()],
                                              r == rows - 1 ? results[0].mass.data() : nullptr))
              << "row " << r;
          for (size_t i = 0; i < expected.mass.size(); ++i) sums[i] += expected.mass[i];
        }
        for (int64_t i = 0; i < live; ++i) {
          ASSERT_NEAR(static_cast<double>(results[0].sums[i]) * kMassUnit, sums[i],
                      kMassTolerance * sums[i] + static_cast<double>(rows) * kMassUnit);
        }
        ASSERT_TRUE(SameResult(results[0], results[1])) << "2 threads";
        ASSERT_TRUE(SameResult(results[0], results[2])) << "3 threads";
      }
    }
  }
}

TEST_P(AttentionTest, EqualsTheReferenceForEveryHeadAndPageSize) {
  for (const int64_t head_size : {8, 16, 20, 64, 128}) {
    for (const int64_t page_tokens : {16, 32, 64, 256}) {
      for (const int64_t kv_heads : {1, 3}) {
        const Shape shape{form(), kv_heads, 2, head_size, page_tokens, 300};
        SCOPED_TRACE(testing::Message()
                     << "head size " << head_size << ", pages of " << page_tokens);
        const Scene scene(shape, static_cast<uint32_t>(head_size));
        for (const int64_t rows : {1, 3}) {
          const Result result = scene.RunAlone(table(), 300, rows);
          ASSERT_NO_FATAL_FAILURE(ExpectEqual(scene.Naive(table(), 299),
                                              &result.out[(rows - 1) * shape.out_stride()],
                                              result.mass.data()));
        }
      }
    }
  }
}

TEST_P(AttentionTest, ARowIsTheSameBitByBitWhetherDecodedOrPrefilled) {
  ThreadTeam one(1), three(3);
  for (const int64_t group : kGroups) {
    for (const int64_t live : {33, 270}) {
      const Shape shape{
          .form = form(), .kv_heads = 1, .group = group, .head_size = 12, .live = live};
      const Scene scene(shape, static_cast<uint32_t>(live + group), 4);
      Attention single(&table(), &one, shape.layout(), shape.heads());
      Attention threaded(&table(), &three, shape.layout(), shape.heads());
      std::vector<Result> decoded(live + 1);
      for (int64_t end = live - 32; end <= live; ++end)
        decoded[end] = scene.RunAlone(table(), end, 1);
      for (int64_t rows = 2; rows <= 33; rows += group == 2 || rows < 9 ? 1 : 6) {
        for (Attention* attention : {&single, &threaded}) {
          Result result;
          const AttentionTask task = scene.Task(live, rows, result);
          attention->Run({&task, 1});
          for (int64_t r = 0; r < rows; ++r) {
            const Result& expected = decoded[live - rows + r + 1];
            ASSERT_TRUE(
                SameBits(&result.out[r * shape.out_stride()], expected.out.data(), shape.width()))
                << "row " << r << " of " << rows << ", " << live << " live, group " << group;
          }
          ASSERT_TRUE(SameBits(result.mass.data(), decoded[live].mass.data(), live));
        }
      }
    }
  }
}

// Integers in a fixed unit: the sum of each row's rounded mass, in whatever portions.
TEST_P(AttentionTest, MassColumnsAreTheSumOfRowsHoweverTheyAreSplit) {
  for (const int64_t group : {1, 7}) {
    const Shape shape{.form = form(), .kv_heads = 1, .group = group, .head_size = 8, .live = 300};
    const Scene scene(shape, static_cast<uint32_t>(group), 4);
    constexpr int64_t kTotal = 50, kFirst = 300 - kTotal;
    std::vector<int64_t> sums(300);
    std::vector<int32_t> strong(300, -1);  // as rows of the whole
    for (int64_t r = 0; r < kTotal; ++r) {
      const Result row = scene.RunAlone(table(), kFirst + r + 1, 1);
      for (int64_t i = 0; i <= kFirst + r; ++i) {
        sums[i] += std::llrint(double{row.mass[i]} / kMassUnit);
        if (row.mass[i] >= Scene::kThreshold) strong[i] = static_cast<int32_t>(r);
      }
    }
    ASSERT_TRUE(std::any_of(strong.begin(), strong.end(), [](int32_t r) { return r >= 0; }));
    for (const int threads : {1, 3}) {
      ThreadTeam team(threads);
      Attention attention(&table(), &team, shape.layout(), shape.heads());
      for (const std::vector<int64_t>& portions :
           {std::vector<int64_t>{50}, {8, 42}, {49, 1}, {7, 9, 1, 16, 17}}) {
        Result all;
        scene.Task(300, 1, all);  // for its columns
        int64_t done = 0;
        for (const int64_t rows : portions) {
          Result part;
          AttentionTask task = scene.Task(kFirst + done + rows, rows, part);
          task.columns.sums = all.sums.data();
          if (rows > 1) task.last_row_mass = nullptr;
          attention.Run({&task, 1});
          // Rows are counted from each task's first.
          for (size_t i = 0; i < part.strong.size(); ++i) {
            if (part.strong[i] >= 0) all.strong[i] = part.strong[i] + static_cast<int32_t>(done);
          }
          done += rows;
        }
        ASSERT_TRUE(SameBits(all.sums, sums)) << portions.size() << " portions";
        ASSERT_TRUE(SameBits(all.strong, strong)) << portions.size() << " portions";
      }
    }
  }
}

TEST_P(AttentionTest, MassColumnsBeginWhereTheyAreAskedTo) {
  const Shape shape{.form = form(), .group = 2, .head_size = 8, .live = 60};
  const Scene scene(shape, 3, 4);
  for (const int64_t first : {0, 1, 7, 8, 13, 19, 20, 100}) {
    std::vector<int64_t> sums(60);
    std::vector<int32_t> strong(60, -1);
    for (int64_t r = first; r < 20; ++r) {
      const Result row = scene.RunAlone(table(), 40 + r + 1, 1);
      for (int64_t i = 0; i <= 40 + r; ++i) {
        sums[i] += std::llrint(double{row.mass[i]} / kMassUnit);
        if (row.mass[i] >= Scene::kThreshold) strong[i] = static_cast<int32_t>(r);
      }
    }
    const Result result = scene.RunAlone(table(), 60, 20, first);
    ASSERT_TRUE(SameBits(result.sums, sums)) << first;
    ASSERT_TRUE(SameBits(result.strong, strong)) << first;
  }
}

TEST_P(AttentionTest, MassIsAddedToWhatColumnsHold) {
  const Shape shape{.form = form(), .live = 20};
  const Scene scene(shape, 4);
  ThreadTeam team(2);
  Attention attention(&table(), &team, shape.layout(), shape.heads());
  for (const int64_t rows : {1, 5, 17}) {
    const Result fresh = scene.RunAlone(table(), 20, rows);
    Result result;
    const AttentionTask task = scene.Task(20, rows, result);
    std::fill(result.sums.begin(), result.sums.end(), 1000);
    std::fill(result.strong.begin(), result.strong.end(), 100);
    attention.Run({&task, 1});
    for (int64_t i = 0; i < 20; ++i) {
      ASSERT_EQ(result.sums[i], fresh.sums[i] + 1000);
      ASSERT_EQ(result.strong[i], 100);
    }
  }
}

// Sequences of all sorts in one Run: nobody's result depends on the others.
TEST_P(AttentionTest, TasksInOneRunDoNotDependOnEachOther) {
  std::mt19937 random(5);
  ThreadTeam one(1), two(2), three(3);
  Shape shape{.form = form(), .group = 2, .head_size = 20};
  Attention alone(&table(), &one, shape.layout(), shape.heads());
  for (ThreadTeam* team : {&one, &two, &three}) {
    Attention together(&table(), team, shape.layout(), shape.heads());
    for (int round = 0; round < 12; ++round) {
      const int count = 1 + static_cast<int>(random() % 9);
      std::vector<std::unique_ptr<Scene>> scenes;
      std::vector<Weighting> weightings(count);
      std::vector<Result> results(count), expected(count);
      std::vector<AttentionTask> tasks;
      for (int i = 0; i < count; ++i) {
        shape.live = kLive[random() % std::size(kLive)];
        scenes.push_back(std::make_unique<Scene>(shape, static_cast<uint32_t>(random())));
        const int64_t rows =
            std::min(shape.live, kRows[random() % 2 * (random() % std::size(kRows))]);
        const auto wanted = random() % 4;
        const auto weigh = static_cast<WeightingForm>(rows == 1 ? random() % 3 : 0);
        weightings[i] = RandomWeighting(weigh, shape.live, static_cast<uint32_t>(random()));
        for (std::vector<Result>* to : {&expected, &results}) {
          AttentionTask task = rows == 1 ? scenes[i]->WeightedTask(weightings[i], (*to)[i])
                                         : scenes[i]->Task(shape.live, rows, (*to)[i]);
          // Columns or the last row's mass or both or neither; of a single row no columns alone.
          if (wanted % 2 == 0) task.first_mass_row = INT64_MAX;
          if (wanted == 0 || (wanted == 1 && rows > 1)) task.last_row_mass = nullptr;
          std::fill((*to)[i].mass.begin(), (*to)[i].mass.end(), 0.0f);
          if (to == &expected) {
            alone.Run({&task, 1});
          } else {
            tasks.push_back(task);
          }
        }
      }
      together.Run(tasks);
      for (int i = 0; i < count; ++i) {
        ASSERT_TRUE(SameResult(results[i], expected[i]))
            << "task " << i << ": " << tasks[i].rows << " rows of " << tasks[i].live << ", "
            << team->threads() << " threads";
      }
    }
  }
}

TEST_P(AttentionTest, MoreDecodingSequencesThanProbabilitiesFitAtOnceChangeNothing) {
  const Shape shape{.form = form(), .group = 7, .head_size = 2, .live = 1000};
  const Scene scene(shape, 6);
  const Result expected = scene.RunAlone(table(), 1000, 1);
  ThreadTeam team(2);
  Attention attention(&table(), &team, shape.layout(), shape.heads());
  std::vector<Result> results(90);  // x 14 heads x 1,024 slots: more than 2^20
  std::vector<AttentionTask> tasks;
  for (Result& result : results) tasks.push_back(scene.Task(1000, 1, result));
  attention.Run(tasks);
  for (const Result& result : results) ASSERT_TRUE(SameResult(result, expected));
}

TEST_P(AttentionTest, NoTasksAreNoWork) {
  ThreadTeam team(2);
  Attention attention(&table(), &team, KvLayout{form(), 1, 8, 16}, 1);
  attention.Run({});
}

// spec 4.2, I13 and I14: LOG_BIAS makes p'_j = w_j p_j / sum(w p); KV_SCALE makes logit * w and
// value * w, the mass being taken before values are scaled.
TEST_P(AttentionTest, WeighsSlotsAsTheSpecificationSays) {
  ThreadTeam team(2);
  for (const int64_t group : kGroups) {
    Shape shape{.form = form(), .group = group, .head_size = 16};
    Attention attention(&table(), &team, shape.layout(), shape.heads());
    for (const int64_t live : kLive) {
      shape.live = live;
      const Scene scene(shape, static_cast<uint32_t>(live + 7));
      for (const WeightingForm weigh : {WeightingForm::kLogBias, WeightingForm::kKvScale}) {
        const Weighting w = RandomWeighting(weigh, live, static_cast<uint32_t>(live));
        std::vector<double> weights;
        for (int64_t i = 0; i < live; ++i) {
          weights.push_back(w.weighting.Weight(w.now, w.last_reset[i], w.strength[i]));
        }
        Result result;
        const AttentionTask task = scene.WeightedTask(w, result);
        attention.Run({&task, 1});
        ASSERT_NO_FATAL_FAILURE(ExpectEqual(scene.Naive(table(), live - 1, weigh, weights),
                                            result.out.data(), result.mass.data()))
            << live << " live, group " << group << ", form " << static_cast<int>(weigh);
      }
    }
  }
}

// I13, of the mass alone and with nothing but unweighted attention to compare with.
TEST_P(AttentionTest, LogBiasReweighsProbabilities) {
  const Shape shape{.form = form(), .kv_heads = 1, .group = 1, .head_size = 16, .live = 270};
  const Scene scene(shape, 8);
  const std::vector<float> plain = scene.RunAlone(table(), 270, 1).mass;
  const Weighting w = RandomWeighting(WeightingForm::kLogBias, 270, 9);
  Result result;
  ThreadTeam team(1);
  Attention attention(&table(), &team, shape.layout(), shape.heads());
  const AttentionTask task = scene.WeightedTask(w, result);
  attention.Run({&task, 1});
  double sum = 0;
  std::vector<double> expected;
  for (int64_t i = 0; i < 270; ++i) {
    expected.push_back(plain[i] * w.weighting.Weight(w.now, w.last_reset[i], w.strength[i]));
    sum += expected.back();
  }
  for (int64_t i = 0; i < 270; ++i) {
    ASSERT_NEAR(result.mass[i], expected[i] / sum, kMassTolerance * expected[i] / sum);
  }
}

// I11
TEST_P(AttentionTest, WeightsOfOneChangeNothing) {
  const Shape shape{.form = form(), .group = 2, .head_size = 20, .live = 300};
  const Scene scene(shape, 10);
  const Result plain = scene.RunAlone(table(), 300, 1);
  ThreadTeam team(1);
  Attention attention(&table(), &team, shape.layout(), shape.heads());
  for (const WeightingForm weigh : {WeightingForm::kLogBias, WeightingForm::kKvScale}) {
    Weighting w = RandomWeighting(weigh, 300, 11);
    w.weighting.time_step = 0;
    w.weighting.ceiling = 1;
    Result result;
    const AttentionTask task = scene.WeightedTask(w, result);
    attention.Run({&task, 1});
    ASSERT_TRUE(SameResult(result, plain));
  }
}

TEST_P(AttentionTest, WhatLiesBeyondTheLiveSlotsDoesNotMatter) {
  for (const int64_t live : {1, 3, 15, 17, 33, 63, 65, 257}) {
    const Shape shape{.form = form(), .group = 2, .head_size = 20, .live = live};
    Scene scene(shape, static_cast<uint32_t>(live));
    std::vector<Result> clean;
    for (const int64_t rows : {1, 2, 9})
      clean.push_back(scene.RunAlone(table(), live, std::min(rows, live)));
    // Keys may be anything; values are old numbers, which a probability of 0 silences.
    const KvLayout layout = shape.layout();
    const std::vector<float> junk(20, NAN), old = Random(20, 12, 1e30f);
    for (int64_t slot = live; slot < (live + 63) / 64 * 64; ++slot) {
      for (int64_t head = 0; head < 2; ++head) {
        std::byte* page = scene.page(slot / 64);
        StoreToken(layout, page, head, slot % 64, old.data(), old.data());
        if (form() == KvForm::kInt8) {
          layout.KeyScales(page, head)[slot % 64] = NAN;
        } else {
          StoreToken(layout, page, head, slot % 64, junk.data(), old.data());
        }
      }
    }
    size_t i = 0;
    for (const int64_t rows : {1, 2, 9}) {
      ASSERT_TRUE(SameResult(scene.RunAlone(table(), live, std::min(rows, live)), clean[i++]))
          << live << " live, " << rows << " rows";
    }
  }
}

// I9
TEST_P(AttentionTest, PermutingSlotsChangesNothingBeyondRounding) {
  std::mt19937 random(13);
  for (const int64_t live : {17, 256, 1000}) {
    const Shape shape{.form = form(), .group = 7, .head_size = 16, .live = live};
    Scene scene(shape, static_cast<uint32_t>(live));
    const Result before = scene.RunAlone(table(), live, 1);
    std::vector<int64_t> order(live);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    scene.Permute(order);
    const Result after = scene.RunAlone(table(), live, 1);
    for (int64_t i = 0; i < shape.width(); ++i) {
      ASSERT_NEAR(after.out[i], before.out[i], 2 * OutputTolerance(table(), form()));
    }
    for (int64_t i = 0; i < live; ++i) {
      const double expected = before.mass[order[i]];
      ASSERT_NEAR(after.mass[i], expected, kMassTolerance * expected);
    }
  }
}

// Where one slot or one block takes all: the others' probabilities underflow, nothing else does.
TEST_P(AttentionTest, SharpLogitsStayFinite) {
  for (const float sharpness : {30.0f, 300.0f, 10000.0f}) {
    const Shape shape{.form = form(), .group = 2, .head_size = 16, .live = 600};
    const Scene scene(shape, static_cast<uint32_t>(sharpness), sharpness);
    for (const int64_t rows : {1, 9}) {
      const Result result = scene.RunAlone(table(), 600, rows);
      const Reference expected = scene.Naive(table(), 599);
      // Logits in fp32 are off by their own size times 2^-22 or so.
      const double tolerance = OutputTolerance(table(), form()) + sharpness * 5e-6;
      double total = 0;
      for (int64_t i = 0; i < shape.width(); ++i) {
        ASSERT_NEAR(result.out[(rows - 1) * shape.out_stride() + i], expected.out[i], tolerance);
      }
      for (int64_t i = 0; i < 600; ++i) {
        ASSERT_NEAR(result.mass[i], expected.mass[i], sharpness * 5e-6);
        total += result.mass[i];
      }
      ASSERT_NEAR(total, 1, 2e-6);
    }
  }
}

}  // namespace
}  // namespace ebbinghaus::kernels
