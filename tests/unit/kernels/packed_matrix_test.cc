#include "server/kernels/packed_matrix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "server/kernels/half.h"
#include "tests/unit/kernels/matrix.h"

namespace ebbinghaus::kernels {
namespace {

constexpr int64_t kColumns[] = {1, 2, 3, 31, 32, 33, 63, 64, 65, 100, 200, 896};
constexpr double kUlp = 1.0 / (1 << 24);

double Magnitude(const float* x, int64_t n) {
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, double{std::fabs(x[i])});
  return largest;
}

// By how much a number of this group may be off: half a step, and what rounding the step (and the
// minimum) to fp16 does to the largest code.
double Bound(WeightForm form, const float* group, int64_t n, float x) {
  const double largest = Magnitude(group, n);
  const auto rounding = [](double value) {
    return std::fabs(value - HalfToFloat(FloatToHalf(static_cast<float>(value))));
  };
  switch (form) {
    case WeightForm::kF32:
      return 0;
    case WeightForm::kBf16:
      return std::fabs(x) / 256;
    case WeightForm::kInt8Row:
      return largest / 127 / 2 * (1 + 1e-5);
    case WeightForm::kInt8Group: {
      const double off = rounding(largest / 127);
      return (largest / 127 + off) / 2 + 127 * off + 16 * kUlp * largest;
    }
    case WeightForm::kInt4: {
      const double step = largest / 8, off = rounding(step);
      const double opposite =
          std::max(0.0, std::fabs(x) - 7 * step);  // only one end has the code 8
      return std::max((step + off) / 2, opposite) + 8 * off + 16 * kUlp * largest;
    }
    case WeightForm::kInt4Min: {
      const auto [low, high] = std::minmax_element(group, group + n);
      const double minimum_off = rounding(*low);
      const double minimum = HalfToFloat(FloatToHalf(*low)), step = (*high - minimum) / 15;
      return (std::fabs(step) + rounding(step)) / 2 + 15 * rounding(step) + minimum_off +
             16 * kUlp * largest;
    }
  }
  return -1;
}

void ExpectWithinBound(WeightForm form, const std::vector<float>& row) {
  const auto columns = static_cast<int64_t>(row.size());
  for (const int64_t lane : {0, 7, 15}) {
    Matrix matrix(form, kLanes, columns);
    PackRow(form, row.data(), columns, lane, matrix.Block(0));
    const std::vector<float> back = matrix.Row(lane);
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t group = IsGrouped(form) ? kGroup : columns;
      const int64_t first = c / group * group, n = std::min(group, columns - first);
      ASSERT_LE(std::fabs(double{back[c]} - row[c]), Bound(form, &row[first], n, row[c]))
          << Name(form) << ", column " << c << " of " << columns << ": " << row[c] << " became "
          << back[c];
    }
  }
}

TEST(PackedMatrixTest, RowsComeBackWithinHalfAStep) {
  for (const WeightForm form : kAllForms) {
    for (const int64_t columns : kColumns) {
      for (const float largest : {1.0f, 0.02f, 300.0f, 1e-4f}) {
        const auto seed = static_cast<uint32_t>(columns);
        ASSERT_NO_FATAL_FAILURE(ExpectWithinBound(form, Random(columns, seed, largest)));
      }
    }
  }
}

TEST(PackedMatrixTest, UnusualRowsComeBackWithinHalfAStep) {
  for (const WeightForm form : kAllForms) {
    std::vector<std::vector<float>> rows = {
        std::vector<float>(70, 0.0f), std::vector<float>(70, -0.3f), std::vector<float>(70, 1e-9f)};
    rows.push_back(Random(70, 1));
    for (float& x : rows.back()) x = std::fabs(x) + 5;  // far from zero
    rows.push_back(Random(70, 2));
    for (float& x : rows.back()) x = -std::fabs(x);
    rows.emplace_back(70, 0.0f);
    rows.back()[69] = 0.5f;  // one number only
    rows.push_back({1, -1, 0.99f, -0.99f});
    for (const std::vector<float>& row : rows) {
      ASSERT_NO_FATAL_FAILURE(ExpectWithinBound(form, row));
    }
  }
}

TEST(PackedMatrixTest, NumbersTooSmallForAScaleBecomeAboutZero) {
  for (const WeightForm form : kAllForms) {
    std::vector<float> row(40, 0.0f);
    row[3] = 1e-41f;
    row[35] = -1e-40f;
    Matrix matrix(form, 1, 40, row);
    for (const float x : matrix.Row(0)) ASSERT_LE(std::fabs(x), 1e-38f) << Name(form);
  }
}

TEST(PackedMatrixTest, FloatsComeBackBitByBit) {
  const std::vector<float> row = Random(65, 3);
  EXPECT_TRUE(SameBits(Matrix(WeightForm::kF32, 1, 65, row).Row(0), row));
  std::vector<float> rounded = row;
  for (float& x : rounded) x = Bf16ToFloat(FloatToBf16(x));
  EXPECT_TRUE(SameBits(Matrix(WeightForm::kBf16, 1, 65, row).Row(0), rounded));
}

TEST(PackedMatrixTest, PackingAgainWhatWasUnpackedChangesNothing) {
  for (const WeightForm form : kAllForms) {
    if (form == WeightForm::kInt8Row) continue;  // its scale, in fp32, may lose the last bit
    for (const int64_t columns : kColumns) {
      const Matrix once(form, 1, columns, Random(columns, 4));
      const Matrix twice(form, 1, columns, once.Row(0));
      ASSERT_TRUE(SameBits(once.Row(0), twice.Row(0))) << Name(form) << ", " << columns;
    }
  }
}

// A group as a checkpoint of the form's own would bring it.
struct Group {
  uint8_t codes[kGroup];
  uint16_t scale, minimum;
};
Group RandomGroup(WeightForm form, std::mt19937& random) {
  Group group;
  for (uint8_t& code : group.codes) {
    code = static_cast<uint8_t>(random() % (form == WeightForm::kInt8Group ? 256 : 16));
  }
  group.scale = FloatToHalf(static_cast<float>(random() % 4096) / 65536 - 0.03f);
  group.minimum = FloatToHalf(static_cast<float>(random() % 4096) / -2048);
  return group;
}
float Value(WeightForm form, const Group& group, int64_t i) {
  const double scale = HalfToFloat(group.scale);
  if (form == WeightForm::kInt8Group) return static_cast<float>((group.codes[i] - 128) * scale);
  if (form == WeightForm::kInt4) return static_cast<float>((group.codes[i] - 8) * scale);
  return static_cast<float>(group.codes[i] * scale + HalfToFloat(group.minimum));
}

TEST(PackedMatrixTest, CodesOfTheFormsOwnComeBackExactly) {
  std::mt19937 random(5);
  for (const WeightForm form : kAllForms) {
    if (!IsGrouped(form)) continue;
    constexpr int64_t kGroups = 5;
    Matrix matrix(form, 2 * kLanes, kGroups * kGroup);
    std::vector<Group> groups(2 * kLanes * kGroups);
    std::vector<size_t> order;
    // Twice, in an order of chance: the second write leaves nothing of the first, and of no other.
    for (size_t i = 0; i < 2 * groups.size(); ++i) order.push_back(i % groups.size());
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t i : order) {
      groups[i] = RandomGroup(form, random);
      const auto row = static_cast<int64_t>(i) / kGroups, group = static_cast<int64_t>(i) % kGroups;
      PackGroup(form, groups[i].codes, groups[i].scale, groups[i].minimum, group, row % kLanes,
                matrix.Block(row / kLanes));
    }
    for (int64_t row = 0; row < 2 * kLanes; ++row) {
      const std::vector<float> back = matrix.Row(row);
      for (int64_t c = 0; c < kGroups * kGroup; ++c) {
        ASSERT_EQ(back[c], Value(form, groups[row * kGroups + c / kGroup], c % kGroup))
            << Name(form) << ", row " << row << ", column " << c;
      }
    }
  }
}

TEST(PackedMatrixTest, RowsOfABlockDoNotTouchEachOther) {
  for (const WeightForm form : kAllForms) {
    for (const int64_t columns : kColumns) {
      const std::vector<float> weights = Random(35 * columns, 6);
      Matrix matrix(form, 35, columns);
      for (int64_t r = 34; r >= 0; --r) {
        PackRow(form, &weights[r * columns], columns, r % kLanes, matrix.Block(r / kLanes));
      }
      for (int64_t r = 0; r < 35; ++r) {
        const std::vector<float> row(&weights[r * columns], &weights[r * columns] + columns);
        ASSERT_TRUE(SameBits(matrix.Row(r), Matrix(form, 1, columns, row).Row(0)))
            << Name(form) << ", " << columns << ", row " << r;
      }
      for (int64_t r = 35; r < matrix.packed().padded_rows(); ++r) {
        for (const float x : matrix.Row(r)) ASSERT_EQ(x, 0);
      }
    }
  }
}

TEST(PackedMatrixTest, BlocksHoldWholeLinesAndEveryColumn) {
  for (const WeightForm form : kAllForms) {
    for (int64_t columns = 1; columns < 200; ++columns) {
      EXPECT_GE(PaddedColumns(form, columns), columns);
      EXPECT_EQ(PaddedColumns(form, PaddedColumns(form, columns)), PaddedColumns(form, columns));
      EXPECT_EQ(BlockBytes(form, columns) % kLineBytes, 0);
    }
  }
  // Bytes of 16 rows x 128 columns.
  EXPECT_EQ(BlockBytes(WeightForm::kF32, 128), 16 * 128 * 4);
  EXPECT_EQ(BlockBytes(WeightForm::kBf16, 128), 16 * 128 * 2);
  EXPECT_EQ(BlockBytes(WeightForm::kInt8Row, 128), 16 * (128 + 4));
  EXPECT_EQ(BlockBytes(WeightForm::kInt8Row, 132), 16 * (132 + 4));
  EXPECT_EQ(BlockBytes(WeightForm::kInt8Group, 128), 16 * (128 + 4 * 2));
  EXPECT_EQ(BlockBytes(WeightForm::kInt4, 128), 16 * (64 + 4 * 2));
  EXPECT_EQ(BlockBytes(WeightForm::kInt4Min, 128), 16 * (64 + 4 * 4));
}

}  // namespace
}  // namespace ebbinghaus::kernels
