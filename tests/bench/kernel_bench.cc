#include "tests/bench/kernel_bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "server/kernels/attention.h"
#include "server/kernels/huge_buffer.h"
#include "server/kernels/kernels.h"
#include "server/kernels/packed_matrix.h"
#include "server/kernels/thread_team.h"
#include "tests/bench/filling_decoder.h"

namespace ebbinghaus::bench {
namespace {

using kernels::KernelTable;
using kernels::KvForm;
using kernels::WeightForm;

// Qwen2.5-0.5B.
constexpr int64_t kLayers = 24, kQueryHeads = 14, kKvHeads = 2, kHeadSize = 64;
constexpr int64_t kMatrixBytes = int64_t{256} << 20;  // beyond every cache
constexpr int64_t kPrefillRows = 256;

std::vector<float> RandomValues(int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

// Median seconds of a call: three at least, a third of a second's worth if there are more.
template <typename Function>
double Seconds(const Function& function) {
  function();  // warm-up
  std::vector<double> all;
  double sum = 0;
  while (all.size() < 3 || (sum < 0.3 && all.size() < 1000)) {
    const auto start = std::chrono::steady_clock::now();
    function();
    all.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    sum += all.back();
  }
  return Median(std::move(all));
}

// A matrix of at least kMatrixBytes, made of a few random blocks again and again.
class RandomMatrix {
 public:
  RandomMatrix(WeightForm form, int64_t columns) {
    constexpr int64_t kDistinct = 16;
    const int64_t block_bytes = kernels::BlockBytes(form, columns);
    const int64_t blocks = (kMatrixBytes + block_bytes - 1) / block_bytes;
    buffer_ = kernels::HugeBuffer(blocks * block_bytes);
    for (int64_t b = 0; b < std::min(blocks, kDistinct); ++b) {
      for (int64_t lane = 0; lane < kernels::kLanes; ++lane) {
        kernels::PackRow(form, RandomValues(columns, static_cast<unsigned>(b * kernels::kLanes + lane)).data(), columns, lane,
                         buffer_.data() + b * block_bytes);
      }
    }
    for (int64_t b = kDistinct; b < blocks; ++b) {
      std::memcpy(buffer_.data() + b * block_bytes, buffer_.data() + b % kDistinct * block_bytes, block_bytes);
    }
    matrix_ = {.form = form, .rows = blocks * kernels::kLanes, .columns = columns, .blocks = buffer_.data()};
  }

  // The first `rows` rows of it, or all.
  kernels::PackedMatrix Part(int64_t rows) const {
    kernels::PackedMatrix part = matrix_;
    part.rows = std::min(part.rows, rows);
    return part;
  }

 private:
  kernels::HugeBuffer buffer_;
  kernels::PackedMatrix matrix_;
};

void BenchMultiply(const KernelTable& table, kernels::ThreadTeam& team, WeightForm form, BandwidthProbe& probe) {
  for (const int64_t columns : {int64_t{896}, int64_t{4864}}) {
    const RandomMatrix random(form, columns);
    for (const int64_t rows : {1, 4, 8, 16, 512}) {
      // Few rows stream the whole matrix; many reuse one that is as large as a layer's.
      const kernels::PackedMatrix matrix = random.Part(rows <= 16 ? INT64_MAX : columns == 896 ? 9728 : 896);
      const std::vector<float> x = RandomValues(rows * columns, 1);
      std::vector<float> out(rows * matrix.padded_rows());
      kernels::RowBuffer prepared;
      const double seconds = Seconds([&] {
        kernels::PrepareRows(table, team, form, x.data(), columns, rows, columns, prepared);
        kernels::Multiply(table, team, matrix, prepared.rows(), rows, out.data(), matrix.padded_rows());
      });
      const auto bytes = static_cast<double>(matrix.bytes());
      const double products = static_cast<double>(matrix.rows) * static_cast<double>(columns * rows), gbs = bytes / seconds / 1e9;
      const double limit = probe.Measure();
      std::printf("%-9s multiply %-16s %5ld columns %4ld rows  %9.3f ms %8.1f GB/s", std::string(table.name).c_str(),
                  std::string(kernels::Name(form)).c_str(), static_cast<long>(columns), static_cast<long>(rows), seconds * 1e3, gbs);
      std::printf(" (probe %5.1f: %5.1f%%) %8.1f GMAC/s\n", limit, gbs / limit * 100, products / seconds / 1e9);
      std::fflush(stdout);
    }
  }
}

// K/V of kLayers layers of `slots` tokens.
class RandomCache {
 public:
  RandomCache(const kernels::KvLayout& layout, int64_t slots) {
    const int64_t pages = (slots + layout.page_tokens - 1) / layout.page_tokens, bytes = layout.page_bytes();
    buffer_ = kernels::HugeBuffer(kLayers * pages * bytes);
    std::vector<std::vector<std::byte>> distinct;
    for (unsigned i = 0; i < 7; ++i) distinct.push_back(RandomPage(layout, i));
    layers_.resize(kLayers);
    for (int64_t i = 0; i < kLayers * pages; ++i) {
      std::byte* page = buffer_.data() + i * bytes;
      std::memcpy(page, distinct[i % distinct.size()].data(), bytes);
      layers_[i / pages].push_back(page);
    }
  }

  std::byte* const* layer(int64_t l) const { return layers_[l].data(); }

 private:
  kernels::HugeBuffer buffer_;
  std::vector<std::vector<std::byte*>> layers_;
};

struct AttentionCase {
  int64_t slots = 0, rows = 1;
  bool mass = false;
};

// All layers for one row (each has its own K/V, so nothing stays in the cache), one layer for many.
void BenchAttention(const KernelTable& table, kernels::ThreadTeam& team, const kernels::KvLayout& layout,
                    const RandomCache& cache, const AttentionCase& shape, BandwidthProbe& probe) {
  kernels::Attention attention(&table, &team, layout, kQueryHeads);
  const int64_t width = kQueryHeads * kHeadSize;
  std::vector<float> queries = RandomValues(shape.rows * width, 3), out(shape.rows * width);
  for (float& q : queries) q /= std::sqrt(static_cast<float>(kHeadSize));
  std::vector<int64_t> sums(shape.slots);
  std::vector<int32_t> strong(shape.slots, -1);
  std::vector<float> last((shape.slots + kernels::kBlockSlots - 1) / kernels::kBlockSlots * kernels::kBlockSlots);
  const int64_t layers = shape.rows == 1 ? kLayers : 1;
  const double seconds = Seconds([&] {
    for (int64_t l = 0; l < layers; ++l) {
      kernels::AttentionTask task{.pages = cache.layer(l), .live = shape.slots, .rows = shape.rows, .queries = queries.data(),
                                  .query_stride = width, .out = out.data(), .out_stride = width, .weighting = {}, .columns = {}};
      if (shape.mass) {
        task.last_row_mass = last.data();
        if (shape.rows > 1) task.first_mass_row = 0, task.columns = {sums.data(), strong.data(), 0.01f};
      }
      attention.Run(absl::MakeConstSpan(&task, 1));
    }
  });
  const double limit = probe.Measure();
  std::printf("%-9s attention %-5s %6ld slots %4ld rows %-7s %9.3f ms ", std::string(table.name).c_str(),
              std::string(kernels::Name(layout.form)).c_str(), static_cast<long>(shape.slots), static_cast<long>(shape.rows),
              shape.mass ? "+ mass" : "", seconds * 1e3);
  if (shape.rows == 1) {
    const double gbs = static_cast<double>(kLayers * shape.slots * layout.page_bytes() / layout.page_tokens) / seconds / 1e9;
    std::printf("(24 layers) %8.1f GB/s (probe %5.1f: %5.1f%%)\n", gbs, limit, gbs / limit * 100);
  } else {
    const double pairs = static_cast<double>(shape.rows) * (static_cast<double>(shape.slots) - static_cast<double>(shape.rows) / 2);
    std::printf("(1 layer)   %8.1f GMAC/s\n", pairs * 2 * static_cast<double>(width) / seconds / 1e9);
  }
  std::fflush(stdout);
}

}  // namespace

void RunKernelBench(const Options& options, BandwidthProbe& probe) {
  kernels::ThreadTeam team(static_cast<int>(options.threads));
  constexpr int kLoops = 20000;
  const double barrier = Seconds([&] {
    for (int i = 0; i < kLoops; ++i) team.For(2, 1, [](int64_t, int64_t, int) {});
  });
  std::printf("a loop of two empty items, %d threads: %.2f us\n", team.threads(), barrier / kLoops * 1e6);
  for (const kernels::Target target : kernels::kAllTargets) {
    if (!kernels::Supports(target)) continue;
    const KernelTable& table = *kernels::KernelsFor(target);
    if (options.target != "auto" && options.target != table.name) continue;
    for (const WeightForm form : kernels::kAllForms) BenchMultiply(table, team, form, probe);
    for (const KvForm form : {KvForm::kBf16, KvForm::kInt8}) {
      const kernels::KvLayout layout{.form = form, .kv_heads = kKvHeads, .head_size = kHeadSize};
      for (const int64_t slots : {4096, 32000}) {
        const RandomCache cache(layout, slots);
        for (const int64_t rows : {int64_t{1}, kPrefillRows}) {
          for (const bool mass : {false, true}) BenchAttention(table, team, layout, cache, {slots, rows, mass}, probe);
        }
      }
    }
  }
}

}  // namespace ebbinghaus::bench
