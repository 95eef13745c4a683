#include "server/kernels/kernels.h"

#include <gtest/gtest.h>

#include <set>
#include <string_view>

#include "tests/unit/kernels/tables.h"

namespace ebbinghaus::kernels {
namespace {

TEST(KernelsTest, EverySupportedTargetIsFoundByItsName) {
  for (const Target target : kAllTargets) {
    const KernelTable* table = KernelsFor(target);
    if (!Supports(target)) {
      if (table != nullptr) {
        EXPECT_EQ(ChooseTarget(table->name), std::nullopt);
      }
      continue;
    }
    ASSERT_NE(table, nullptr);
    EXPECT_EQ(ChooseTarget(table->name), target);
  }
}

TEST(KernelsTest, NamesAreThoseOfTheContract) {
  EXPECT_EQ(KernelsFor(Target::kPortable)->name, "portable");
  if (const KernelTable* table = KernelsFor(Target::kAvx2)) {
    EXPECT_EQ(table->name, "avx2");
  }
  if (const KernelTable* table = KernelsFor(Target::kAvx512)) {
    EXPECT_EQ(table->name, "avx512");
  }
}

TEST(KernelsTest, WithoutANameTheLastSupportedTargetIsChosen) {
  Target fastest = Target::kPortable;
  for (const Target target : kAllTargets) {
    if (Supports(target)) fastest = target;
  }
  EXPECT_EQ(ChooseTarget(""), fastest);
}

TEST(KernelsTest, EveryMachineHasThePortableTarget) {
  EXPECT_TRUE(Supports(Target::kPortable));
  EXPECT_EQ(ChooseTarget("portable"), Target::kPortable);
}

TEST(KernelsTest, UnknownNamesChooseNothing) {
  for (const std::string_view name : {"AVX2", "avx", "avx2 ", "sse", "emulated_avx512"}) {
    EXPECT_EQ(ChooseTarget(name), std::nullopt) << name;
  }
}

TEST(KernelsTest, FormsHaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const WeightForm form : kAllForms) names.insert(Name(form));
  EXPECT_EQ(names.size(), std::size(kAllForms));
  EXPECT_EQ(Name(KvForm::kF32), "f32");
  EXPECT_EQ(Name(KvForm::kBf16), "bf16");
  EXPECT_EQ(Name(KvForm::kInt8), "int8");
}

}  // namespace
}  // namespace ebbinghaus::kernels
