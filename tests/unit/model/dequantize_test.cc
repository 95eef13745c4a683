#include "server/model/dequantize.h"

#include <bit>
#include <cstring>
#include <numeric>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/model/gguf.h"
#include "server/model/mapped_file.h"

namespace ebbinghaus::model {
namespace {

// The fixture is a GGUF file by the reference package: <type>.blocks beside <type>.values.
class Dequantizing : public testing::TestWithParam<TensorType> {
 protected:
  void SetUp() override {
    auto file = MappedFile::Open("tests/golden/dequantize/blocks.gguf");
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *file;
    auto gguf = ReadGguf(file_->bytes());
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    const std::string name(LayoutOf(GetParam()).name);
    const StoredTensor& blocks = gguf->tensors.at(name + ".blocks");
    ASSERT_EQ(blocks.type, GetParam());
    blocks_ = {.type = *blocks.type, .shape = blocks.shape, .data = blocks.data};
    const StoredTensor& values = gguf->tensors.at(name + ".values");
    ASSERT_EQ(values.type, TensorType::kF32);
    ASSERT_EQ(values.shape, blocks.shape);
    expected_.resize(values.data.size() / sizeof(float));
    std::memcpy(expected_.data(), values.data.data(), values.data.size());
  }

  std::shared_ptr<const MappedFile> file_;
  TensorView blocks_;
  std::vector<float> expected_;
};

std::vector<uint32_t> Bits(absl::Span<const float> values) {
  std::vector<uint32_t> bits;
  for (float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

TEST_P(Dequantizing, GivesTheReferencesBits) {
  std::vector<float> values(expected_.size());
  DequantizeRows(blocks_, 0, blocks_.rows(), values.data());
  ASSERT_GE(values.size(), 256u);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected_[i]))
        << "value " << i << ": " << values[i] << " instead of " << expected_[i];
  }
}

TEST_P(Dequantizing, GivesTheSameForRowsOneByOneFromUnalignedBytes) {
  std::string moved = "x" + std::string(reinterpret_cast<const char*>(blocks_.data.data()), blocks_.data.size());
  TensorView view = blocks_;
  view.data = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(moved.data()) + 1, blocks_.data.size());
  const int64_t columns = view.columns();
  for (int64_t row = view.rows(); row-- > 0;) {
    std::vector<float> values(columns);
    DequantizeRows(view, row, 1, values.data());
    ASSERT_EQ(Bits(values), Bits(absl::MakeConstSpan(expected_).subspan(row * columns, columns))) << "row " << row;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryType, Dequantizing,
                         testing::Values(TensorType::kF16, TensorType::kBf16, TensorType::kQ8_0, TensorType::kQ4_0,
                                         TensorType::kQ4_1, TensorType::kQ5_0, TensorType::kQ5_1, TensorType::kQ4K,
                                         TensorType::kQ5K, TensorType::kQ6K),
                         [](const auto& info) { return std::string(LayoutOf(info.param).name); });

TEST(Dequantize, PassesFp32OnBitForBitEvenNotANumber) {
  const std::vector<uint32_t> bits = {0, 0x80000000, 1, 0x7f800000, 0x7fc00001, 0x7fa00000, 0x3f800000, 0xff7fffff};
  std::vector<uint32_t> out(bits.size());
  Dequantize(TensorType::kF32, reinterpret_cast<const std::byte*>(bits.data()), static_cast<int64_t>(bits.size()),
             reinterpret_cast<float*>(out.data()));
  EXPECT_EQ(out, bits);
}

// As the converter of llama.cpp does it for Llama: [heads, 2, size / 2, columns] -> [heads, size / 2, 2, columns].
std::vector<float> Interleave(const std::vector<float>& rows, int64_t heads, int64_t size, int64_t columns) {
  std::vector<float> moved;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < size / 2; ++i) {
      for (int64_t half = 0; half < 2; ++half) {
        const auto row = rows.begin() + ((head * 2 + half) * (size / 2) + i) * columns;
        moved.insert(moved.end(), row, row + columns);
      }
    }
  }
  return moved;
}

TEST(Dequantize, PutsPermutedRowsAndBiasesBackInOrder) {
  std::mt19937 random(7);
  for (int trial = 0; trial < 50; ++trial) {
    const int64_t heads = 1 + random() % 5, size = 2 * (1 + random() % 8), columns = 1 + random() % 6;
    std::vector<float> rows(heads * size * columns);
    std::iota(rows.begin(), rows.end(), 1.0f);
    const std::vector<float> stored = Interleave(rows, heads, size, columns);
    const auto bytes = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(stored.data()), stored.size() * sizeof(float));
    const auto permuted = static_cast<uint32_t>(heads);

    const TensorView matrix{.shape = {heads * size, columns}, .data = bytes, .permuted_heads = permuted};
    const int64_t first = random() % (heads * size), count = 1 + random() % (heads * size - first);
    std::vector<float> part(count * columns);
    DequantizeRows(matrix, first, count, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), rows.begin() + first * columns)) << heads << " heads of " << size;

    if (columns != 1) continue;
    const TensorView bias{.shape = {heads * size}, .data = bytes, .permuted_heads = permuted};
    std::vector<float> all(heads * size);
    DequantizeRows(bias, 0, 1, all.data());
    EXPECT_EQ(all, rows);
  }
}

TEST(Dequantize, PutsPermutedQuantizedRowsBackWithTheirBlocks) {
  constexpr int64_t kHeads = 2, kSize = 4, kRowBytes = 34;
  std::string stored;
  for (int64_t head = 0; head < kHeads; ++head) {
    for (int64_t i = 0; i < kSize / 2; ++i) {
      for (int64_t half = 0; half < 2; ++half) {
        const auto row = static_cast<char>(head * kSize + half * (kSize / 2) + i);  // its place in the order to come back to
        stored += std::string("\x00\x3c", 2) + std::string(32, row);               // scale 1
      }
    }
  }
  ASSERT_EQ(stored.size(), kHeads * kSize * kRowBytes);
  const TensorView view{.type = TensorType::kQ8_0,
                        .shape = {kHeads * kSize, 32},
                        .data = absl::MakeConstSpan(reinterpret_cast<const std::byte*>(stored.data()), stored.size()),
                        .permuted_heads = kHeads};
  std::vector<float> values(kHeads * kSize * 32);
  DequantizeRows(view, 0, kHeads * kSize, values.data());
  for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], static_cast<float>(i / 32)) << i;
}

TEST(TensorBytes, CountsWholeBlocksAndRefusesTheRest) {
  EXPECT_EQ(TensorBytes(TensorType::kF32, {3, 5}), 60u);
  EXPECT_EQ(TensorBytes(TensorType::kQ4_0, {3, 64}), 3u * 2 * 18);
  EXPECT_EQ(TensorBytes(TensorType::kQ6K, {2, 512}), 2u * 2 * 210);
  EXPECT_EQ(TensorBytes(TensorType::kQ4_0, {64, 3}), std::nullopt);
  EXPECT_EQ(TensorBytes(TensorType::kQ6K, {896}), std::nullopt);
  EXPECT_EQ(TensorBytes(TensorType::kF32, {0, 5}), 0u);
  EXPECT_EQ(TensorBytes(TensorType::kF32, {-1, 5}), std::nullopt);
  EXPECT_EQ(TensorBytes(TensorType::kF32, {-1, 5}), std::nullopt);
  EXPECT_EQ(TensorBytes(TensorType::kF32, {}), std::nullopt);
  EXPECT_EQ(TensorBytes(TensorType::kF32, {int64_t{1} << 40, int64_t{1} << 40}), std::nullopt);
  EXPECT_EQ(TensorBytes(TensorType::kF16, {INT64_MAX, 1}), std::nullopt);
}

}  // namespace
}  // namespace ebbinghaus::model
