// What the tests here run every kernel with, and what they feed and compare.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "server/kernels/kernels.h"
#include "tests/support/kernel_tables.h"

namespace ebbinghaus::kernels {

inline void PrintTo(const KernelTable* table, std::ostream* out) { *out << table->name; }
inline std::string TableName(const testing::TestParamInfo<const KernelTable*>& info) {
  return std::string(info.param->name);
}

class TableTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  const KernelTable& table() const { return *GetParam(); }
};

// n numbers in [-largest, largest].
inline std::vector<float> Random(int64_t n, uint32_t seed, float largest = 1) {
  std::mt19937 random(seed);
  std::vector<float> numbers(n);
  for (float& x : numbers) {
    x = largest * (static_cast<float>(random() >> 8) / float{1 << 23} - 1);
  }
  return numbers;
}

template <typename T>
testing::AssertionResult SameBits(const T* a, const T* b, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (std::memcmp(a + i, b + i, sizeof(T)) == 0) continue;
    return testing::AssertionFailure() << "number " << i << ": " << a[i] << " and " << b[i];
  }
  return testing::AssertionSuccess();
}
template <typename T>
testing::AssertionResult SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << a.size() << " and " << b.size();
  return SameBits(a.data(), b.data(), static_cast<int64_t>(a.size()));
}

}  // namespace ebbinghaus::kernels
