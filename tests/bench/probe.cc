#include "tests/bench/probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>

namespace ebbinghaus::bench {
namespace {

// Eight sums, so that loads do not wait for additions.
uint64_t Sum(const std::byte* data, size_t bytes) {
  uint64_t sums[8] = {};
  for (size_t at = 0; at < bytes; at += 64) {
    uint64_t line[8];
    std::memcpy(line, data + at, sizeof line);
    for (int i = 0; i < 8; ++i) sums[i] += line[i];
  }
  uint64_t sum = 0;
  for (uint64_t s : sums) sum += s;
  return sum;
}

}  // namespace

BandwidthProbe::BandwidthProbe(int threads, size_t bytes) : team_(threads), buffer_(bytes) {
  std::memset(buffer_.data(), 1, buffer_.size());  // untouched pages would all be the one zero page
}

double BandwidthProbe::Measure() {
  constexpr int64_t kChunk = int64_t{1} << 20;
  const auto chunks = static_cast<int64_t>(buffer_.size()) / kChunk;
  std::atomic<uint64_t> total{0};
  const auto start = std::chrono::steady_clock::now();
  team_.For(chunks, 1, [&](int64_t begin, int64_t end, int) {
    total.fetch_add(Sum(buffer_.data() + begin * kChunk, (end - begin) * kChunk), std::memory_order_relaxed);
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  // The sum is known, which keeps the compiler from leaving the reads out.
  const bool right = total == static_cast<uint64_t>(chunks) * kChunk / 8 * 0x0101010101010101u;
  return right ? static_cast<double>(chunks * kChunk) / elapsed.count() / 1e9 : 0;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace ebbinghaus::bench
