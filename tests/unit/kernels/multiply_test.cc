// Products of packed matrices and activations, for every form and every set of kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "server/kernels/half.h"
#include "server/kernels/packed_matrix.h"
#include "server/kernels/thread_team.h"
#include "tests/unit/kernels/matrix.h"
#include "tests/unit/kernels/tables.h"

namespace ebbinghaus::kernels {
namespace {

constexpr int64_t kColumns[] = {1, 2, 3, 31, 32, 33, 63, 64, 65, 100, 200, 896};
constexpr int64_t kMostRows = 35, kMostActivations = 33;
constexpr double kUlp = 1.0 / (1 << 24);
constexpr float kUntouched = 12345;

// out[r] = W x_r for `count` rows of x from `first` on; [count, padded_rows]
std::vector<float> Product(const KernelTable& table, const PackedMatrix& matrix,
                           const Activations& x, int64_t first, int64_t count) {
  const int64_t rows = matrix.padded_rows(), stride = rows + 5;
  std::vector<float> wide(count * stride, kUntouched), out;
  table.multiply(matrix.form, matrix.blocks, matrix.block_count(), matrix.columns, x.From(first),
                 count, matrix.bias, wide.data(), stride);
  for (int64_t r = 0; r < count; ++r) {
    out.insert(out.end(), &wide[r * stride], &wide[r * stride] + rows);
    for (int64_t i = rows; i < stride; ++i) EXPECT_EQ(wide[r * stride + i], kUntouched);
  }
  return out;
}

class MultiplyTest : public TableTest {
 protected:
  void ExpectEqualsReference(const Matrix& matrix, const Activations& x,
                             const std::vector<float>& raw, const float* bias,
                             const std::vector<float>& out) const;
  void ExpectExactIntegers(WeightForm form, int64_t columns, const std::vector<int>& weights,
                           const std::vector<int>& x, int64_t activations) const;
};
INSTANTIATE_TEST_SUITE_P(, MultiplyTest, testing::ValuesIn(Tables()), TableName);

// Against sums in double: of the numbers multiplied, and, as far as rounding the activations
// allows, of the activations themselves.
void MultiplyTest::ExpectEqualsReference(const Matrix& matrix, const Activations& x,
                                         const std::vector<float>& raw, const float* bias,
                                         const std::vector<float>& out) const {
  const PackedMatrix& m = matrix.packed();
  const auto activations = static_cast<int64_t>(out.size()) / m.padded_rows();
  const bool narrow = m.form == WeightForm::kBf16 && RoundsActivationsToBf16(table());
  // Additions after which a sum is rounded.
  const int64_t sums = IsInteger(m.form)
                           ? 2 * (PaddedColumns(m.form, m.columns) / ActivationGroup(m.form) + 1)
                           : m.columns;
  for (int64_t row = 0; row < m.padded_rows(); ++row) {
    std::vector<float> weights(m.columns);
    if (row < m.rows) weights = matrix.Row(row);
    for (int64_t r = 0; r < activations; ++r) {
      double sum = 0, exact = 0, magnitude = 0, rounding = 0, largest = 0;
      for (int64_t c = 0; c < m.columns; ++c) {
        const double w = weights[c], value = x.Value(r, c), wanted = raw[r * m.columns + c];
        sum += w * value;
        exact += w * wanted;
        largest = std::max(largest, std::fabs(w));
        magnitude += std::fabs(m.form == WeightForm::kInt4Min ? 3 : w) * std::fabs(value);
        rounding += std::fabs(w) * (IsInteger(m.form) ? x.Scale(r, c) * 0.50001
                                    : narrow          ? std::fabs(wanted) / 256
                                                      : 0);
      }
      if (m.form == WeightForm::kInt4Min) magnitude *= largest;
      const double offset = bias == nullptr ? 0 : bias[row];
      const double tolerance =
          (static_cast<double>(sums) + 4) * kUlp * (magnitude + std::fabs(offset));
      const double y = out[r * m.padded_rows() + row];
      ASSERT_NEAR(y, sum + offset, tolerance) << "row " << row << " x " << r;
      ASSERT_NEAR(y, exact + offset, tolerance + rounding) << "row " << row << " x " << r;
    }
  }
}

TEST_P(MultiplyTest, EqualsTheReferenceForEveryFormAndColumnCount) {
  const std::vector<float> bias = Random(48, 7, 3);
  for (const WeightForm form : kAllForms) {
    for (const int64_t columns : kColumns) {
      SCOPED_TRACE(testing::Message() << Name(form) << ", " << columns << " columns");
      Matrix matrix(form, kMostRows, columns, Random(kMostRows * columns, 1, 0.1f));
      const std::vector<float> raw = Random(kMostActivations * columns, 2, 4);
      const Activations x(table(), form, kMostActivations, columns, raw);
      PackedMatrix packed = matrix.packed();
      ASSERT_NO_FATAL_FAILURE(ExpectEqualsReference(
          matrix, x, raw, nullptr, Product(table(), packed, x, 0, kMostActivations)));
      packed.bias = bias.data();
      ASSERT_NO_FATAL_FAILURE(ExpectEqualsReference(
          matrix, x, raw, bias.data(), Product(table(), packed, x, 0, kMostActivations)));
    }
  }
}

TEST_P(MultiplyTest, EqualsTheReferenceForEveryRowCount) {
  for (const WeightForm form : kAllForms) {
    for (int64_t rows = 1; rows <= kMostRows; ++rows) {
      SCOPED_TRACE(testing::Message() << Name(form) << ", " << rows << " rows");
      const Matrix matrix(form, rows, 100, Random(rows * 100, 3, 0.1f));
      const std::vector<float> raw = Random(3 * 100, 4);
      const Activations x(table(), form, 3, 100, raw);
      ASSERT_NO_FATAL_FAILURE(ExpectEqualsReference(matrix, x, raw, nullptr,
                                                    Product(table(), matrix.packed(), x, 0, 3)));
    }
  }
}

TEST_P(MultiplyTest, ARowsResultDoesNotDependOnHowManyAreComputedTogether) {
  const std::vector<float> bias = Random(48, 7, 3);
  for (const WeightForm form : kAllForms) {
    for (const int64_t columns : kColumns) {
      const Matrix matrix(form, kMostRows, columns, Random(kMostRows * columns, 5));
      PackedMatrix packed = matrix.packed();
      if (columns % 2 == 1) packed.bias = bias.data();
      const Activations x(table(), form, kMostActivations, columns,
                          Random(kMostActivations * columns, 6));
      std::vector<float> alone;
      for (int64_t r = 0; r < kMostActivations; ++r) {
        const std::vector<float> one = Product(table(), packed, x, r, 1);
        alone.insert(alone.end(), one.begin(), one.end());
      }
      for (int64_t count = 1; count <= kMostActivations; ++count) {
        const int64_t first = kMostActivations - count;
        const std::vector<float> together = Product(table(), packed, x, first, count);
        ASSERT_TRUE(SameBits(together.data(), &alone[first * packed.padded_rows()],
                             count * packed.padded_rows()))
            << Name(form) << ", " << columns << " columns, " << count << " rows";
      }
    }
  }
}

TEST_P(MultiplyTest, ThreadsChangeNothing) {
  constexpr int64_t kRows = 1000, kColumnCount = 70, kActivations = 9;
  const std::vector<float> raw = Random(kActivations * (kColumnCount + 2), 8),
                           bias = Random(1008, 9);
  for (const WeightForm form : kAllForms) {
    const Matrix matrix(form, kRows, kColumnCount, Random(kRows * kColumnCount, 10));
    PackedMatrix packed = matrix.packed();
    packed.bias = bias.data();
    std::vector<float> expected;
    for (const int threads : {1, 2, 3}) {
      ThreadTeam team(threads);
      RowBuffer buffer;
      PrepareRows(table(), team, form, raw.data(), kColumnCount + 2, kActivations, kColumnCount,
                  buffer);
      std::vector<float> out(kActivations * packed.padded_rows());
      Multiply(table(), team, packed, buffer.rows(), kActivations, out.data(),
               packed.padded_rows());
      if (threads == 1) {
        expected = out;
        for (int64_t r = 0; r < kActivations; ++r) {  // each block by itself, too
          PreparedRows x = buffer.rows();
          x.data += r * x.row_bytes;
          x.scales += r * x.groups;
          x.sums += r * x.groups;
          float lanes[kLanes];
          const int64_t block = 7 * r;
          table().multiply(form, packed.blocks + block * BlockBytes(form, kColumnCount), 1,
                           kColumnCount, x, 1, &bias[block * kLanes], lanes, kLanes);
          ASSERT_TRUE(SameBits(lanes, &out[r * packed.padded_rows() + block * kLanes], kLanes));
        }
      }
      ASSERT_TRUE(SameBits(out, expected)) << Name(form) << ", " << threads << " threads";
    }
  }
}

TEST_P(MultiplyTest, ABufferServesLargeAndSmallAlike) {
  RowBuffer buffer;
  ThreadTeam team(1);
  for (const int64_t columns : {100, 896, 3, 64, 33}) {
    for (const WeightForm form : kAllForms) {
      const Matrix matrix(form, 16, columns, Random(16 * columns, 11));
      const std::vector<float> raw = Random(5 * columns, 12);
      PrepareRows(table(), team, form, raw.data(), columns, 5, columns, buffer);
      std::vector<float> out(5 * 16);
      Multiply(table(), team, matrix.packed(), buffer.rows(), 5, out.data(), 16);
      const Activations fresh(table(), form, 5, columns, raw);
      ASSERT_TRUE(SameBits(out, Product(table(), matrix.packed(), fresh, 0, 5)))
          << Name(form) << ", " << columns;
    }
  }
}

TEST_P(MultiplyTest, PreparesActivationsWithinHalfAStep) {
  for (const WeightForm form : kAllForms) {
    for (const int64_t columns : kColumns) {
      SCOPED_TRACE(testing::Message() << Name(form) << ", " << columns << " columns");
      std::vector<float> raw = Random(4 * columns, 13, 20);
      std::fill_n(raw.begin() + columns, columns, 0.0f);
      const Activations x(table(), form, 4, columns, raw);
      const bool narrow = form == WeightForm::kBf16 && RoundsActivationsToBf16(table());
      for (int64_t r = 0; r < 4; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          const float wanted = raw[r * columns + c];
          const double step = IsInteger(form) ? x.Scale(r, c)
                              : narrow        ? std::fabs(wanted) / 128
                                              : 0;
          ASSERT_NEAR(x.Value(r, c), wanted, step * 0.50001) << c;
        }
        if (!IsInteger(form)) continue;
        const int64_t padded = PaddedColumns(form, columns), groups = x.From(r).groups;
        for (int64_t c = columns; c < padded; ++c) ASSERT_EQ(x.Code(r, c), 0);
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t group = ActivationGroup(form), first = g * group;
          const int64_t end = std::min(first + group, padded);
          int sum = 0, most = 0;
          float largest = 0;
          for (int64_t c = first; c < end; ++c) {
            sum += x.Code(r, c);
            most = std::max(most, std::abs(x.Code(r, c)));
            if (c < columns) largest = std::max(largest, std::fabs(raw[r * columns + c]));
          }
          ASSERT_EQ(x.From(r).sums[g], sum);
          ASSERT_EQ(most, largest > 0 ? 127 : 0);
          ASSERT_FLOAT_EQ(x.From(r).scales[g], largest / 127);
        }
      }
    }
  }
}

// With weights and activations that are integers, and scales of 1, the result is the exact sum:
// the same for every table, then.
void MultiplyTest::ExpectExactIntegers(WeightForm form, int64_t columns,
                                       const std::vector<int>& weights, const std::vector<int>& x,
                                       int64_t activations) const {
  const auto rows = static_cast<int64_t>(weights.size()) / columns;
  Matrix matrix(form, rows, columns);
  const int offset = form == WeightForm::kInt8Group ? 128 : form == WeightForm::kInt4 ? 8 : 0;
  for (int64_t r = 0; r < rows; ++r) {
    if (form == WeightForm::kInt8Row) {
      const std::vector<float> row(&weights[r * columns], &weights[r * columns] + columns);
      PackRow(form, row.data(), columns, r % kLanes, matrix.Block(r / kLanes));
      continue;
    }
    for (int64_t first = 0; first < PaddedColumns(form, columns); first += kGroup) {
      uint8_t codes[kGroup];
      for (int64_t i = 0; i < kGroup; ++i) {
        codes[i] = static_cast<uint8_t>(
            offset + (first + i < columns ? weights[r * columns + first + i] : 0));
      }
      PackGroup(form, codes, FloatToHalf(1), FloatToHalf(0), first / kGroup, r % kLanes,
                matrix.Block(r / kLanes));
    }
  }
  const Activations prepared(table(), form, activations, columns, {x.begin(), x.end()});
  const std::vector<float> out = Product(table(), matrix.packed(), prepared, 0, activations);
  for (int64_t a = 0; a < activations; ++a) {
    for (int64_t r = 0; r < rows; ++r) {
      int64_t sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += weights[r * columns + c] * x[a * columns + c];
      ASSERT_LT(std::abs(sum), 1 << 24);
      ASSERT_EQ(out[a * matrix.packed().padded_rows() + r], sum)
          << Name(form) << ", " << columns << " columns, row " << r << " x " << a;
    }
  }
}

struct Range {
  WeightForm form;
  int lowest, highest;
};
constexpr Range kRanges[] = {{WeightForm::kInt8Row, -127, 127},
                             {WeightForm::kInt8Group, -128, 127},
                             {WeightForm::kInt4, -8, 7},
                             {WeightForm::kInt4Min, 0, 15}};

TEST_P(MultiplyTest, IntegerSumsAreExact) {
  std::mt19937 random(14);
  for (const Range& range : kRanges) {
    for (const int64_t columns : kColumns) {
      const auto draw = [&](int low, int high) {
        return low + static_cast<int>(random() % static_cast<uint32_t>(high - low + 1));
      };
      std::vector<int> weights(20 * columns), x(9 * columns);
      for (int& w : weights) w = draw(range.lowest, range.highest);
      for (int& v : x) v = draw(-127, 127);
      // What sets the scales to 1.
      for (int64_t i = 0; i < 20; ++i) {
        for (int64_t c = 0; c < columns; c += kGroup) weights[i * columns + c] = range.highest;
      }
      for (int64_t i = 0; i < 9; ++i) {
        for (int64_t c = 0; c < columns; c += kGroup) x[i * columns + c] = c % 3 == 0 ? 127 : -127;
      }
      ASSERT_NO_FATAL_FAILURE(ExpectExactIntegers(range.form, columns, weights, x, 9));
    }
  }
}

TEST_P(MultiplyTest, TheLargestCodesDoNotOverflow) {
  for (const Range& range : kRanges) {
    for (const int64_t columns : {32, 64, 896}) {
      std::vector<int> weights, x;
      for (const int w : {range.lowest, range.highest}) {
        weights.insert(weights.end(), columns, w);
        for (int64_t c = 0; c < columns; ++c) {
          weights.push_back(c % 2 == 0 ? range.lowest : range.highest);
        }
      }
      for (const int v : {-127, 127}) {
        x.insert(x.end(), columns, v);
        for (int64_t c = 0; c < columns; ++c) x.push_back(c % 2 == 0 ? v : -v);
      }
      ASSERT_NO_FATAL_FAILURE(ExpectExactIntegers(range.form, columns, weights, x, 4));
    }
  }
}

TEST_P(MultiplyTest, ReadsEveryFp16ScaleExactly) {
  for (const WeightForm form : {WeightForm::kInt8Group, WeightForm::kInt4, WeightForm::kInt4Min}) {
    Matrix matrix(form, kLanes, 64);
    std::vector<float> x(64, 0.0f);
    x[1] = x[35] = 127;  // both of scale 1
    const Activations prepared(table(), form, 1, 64, x);
    uint8_t codes[2][kGroup] = {};
    const uint8_t zero = form == WeightForm::kInt8Group ? 128 : form == WeightForm::kInt4 ? 8 : 0;
    std::fill_n(codes[0], 2 * kGroup, zero);
    for (uint32_t first = 0; first < 0x10000; first += 2 * kLanes) {
      if ((first & 0x7c00) == 0x7c00) continue;  // infinities and NaNs
      // Of the second group, lanes [0, 8) only, so that the lanes' own scales are seen.
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const auto scale = static_cast<uint16_t>(first + lane);
        codes[0][1] = static_cast<uint8_t>(zero + 1);
        codes[1][3] = static_cast<uint8_t>(zero + (lane < 8 ? 0 : 2));
        PackGroup(form, codes[0], scale, 0, 0, lane, matrix.Block(0));
        PackGroup(form, codes[1], static_cast<uint16_t>(scale ^ 16), 0, 1, lane, matrix.Block(0));
      }
      const std::vector<float> out = Product(table(), matrix.packed(), prepared, 0, 1);
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float scale = HalfToFloat(static_cast<uint16_t>(first + lane));
        const float other = HalfToFloat(static_cast<uint16_t>((first + lane) ^ 16));
        ASSERT_FLOAT_EQ(out[lane], 127 * scale + (lane < 8 ? 0 : 2 * 127 * other)) << first + lane;
      }
    }
  }
}

TEST_P(MultiplyTest, ZerosGiveZeroAndTheBias) {
  const std::vector<float> bias = Random(16, 15);
  for (const WeightForm form : kAllForms) {
    for (const int64_t columns : {1, 33, 100}) {
      const Matrix nothing(form, 16, columns, std::vector<float>(16 * columns, 0.0f));
      const Matrix something(form, 16, columns, Random(16 * columns, 16));
      const Activations zeros(table(), form, 2, columns, std::vector<float>(2 * columns, 0.0f));
      const Activations numbers(table(), form, 2, columns, Random(2 * columns, 17));
      for (const float y : Product(table(), nothing.packed(), numbers, 0, 2)) ASSERT_EQ(y, 0);
      for (const float y : Product(table(), nothing.packed(), zeros, 0, 2)) ASSERT_EQ(y, 0);
      PackedMatrix packed = something.packed();
      packed.bias = bias.data();
      const std::vector<float> out = Product(table(), packed, zeros, 0, 2);
      for (int64_t i = 0; i < 32; ++i) ASSERT_EQ(out[i], bias[i % 16]) << Name(form);
    }
  }
}

TEST_P(MultiplyTest, ActivationsTooSmallForAScaleCountAsZero) {
  const std::vector<float> bias = Random(16, 18);
  for (const WeightForm form : kAllForms) {
    const Matrix matrix(form, 16, 100, Random(16 * 100, 19));
    PackedMatrix packed = matrix.packed();
    packed.bias = bias.data();
    for (const float tiny : {1e-37f, 1e-40f, std::numeric_limits<float>::denorm_min()}) {
      std::vector<float> raw(100, 0.0f);
      for (const int64_t c : {0, 5, 40, 77, 99}) raw[c] = c % 2 == 0 ? tiny : -tiny;
      const Activations x(table(), form, 1, 100, raw);
      const std::vector<float> out = Product(table(), packed, x, 0, 1);
      for (int64_t i = 0; i < 16; ++i) ASSERT_EQ(out[i], bias[i]) << Name(form) << ", " << tiny;
      if (!IsInteger(form)) continue;
      for (int64_t c = 0; c < 100; ++c) ASSERT_EQ(x.Code(0, c), 0) << Name(form) << ", " << tiny;
      for (int64_t g = 0; g < x.From(0).groups; ++g) ASSERT_EQ(x.From(0).sums[g], 0);
    }
  }
}

}  // namespace
}  // namespace ebbinghaus::kernels
