#include "server/kernels/kv_layout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "server/kernels/half.h"
#include "tests/unit/kernels/tables.h"

namespace ebbinghaus::kernels {
namespace {

constexpr KvForm kForms[] = {KvForm::kF32, KvForm::kBf16, KvForm::kInt8};
constexpr int64_t kHeadSizes[] = {8, 16, 20, 64, 128};

std::vector<KvLayout> Layouts() {
  std::vector<KvLayout> layouts;
  for (const KvForm form : kForms) {
    for (const int64_t head_size : kHeadSizes) {
      for (const int64_t page_tokens : {16, 64}) {
        for (const int64_t kv_heads : {1, 3}) {
          layouts.push_back({form, kv_heads, head_size, page_tokens});
        }
      }
    }
  }
  return layouts;
}
testing::Message Describe(const KvLayout& layout) {
  return testing::Message() << Name(layout.form) << ", " << layout.kv_heads << " heads of "
                            << layout.head_size << ", " << layout.page_tokens << " tokens";
}

using Page = std::vector<std::byte>;

struct Token {
  std::vector<float> key, value;  // [K * D]
};
Token RandomToken(const KvLayout& layout, uint32_t seed) {
  const int64_t n = layout.kv_heads * layout.head_size;
  return {Random(n, seed, 3), Random(n, seed + 5000, 0.2f)};
}
void Store(const KvLayout& layout, Page& page, int64_t slot, const Token& token) {
  for (int64_t head = 0; head < layout.kv_heads; ++head) {
    const int64_t at = head * layout.head_size;
    StoreToken(layout, page.data(), head, slot, &token.key[at], &token.value[at]);
  }
}
Token Load(const KvLayout& layout, const Page& page, int64_t slot) {
  const int64_t n = layout.kv_heads * layout.head_size;
  Token token{std::vector<float>(n), std::vector<float>(n)};
  for (int64_t head = 0; head < layout.kv_heads; ++head) {
    const int64_t at = head * layout.head_size;
    LoadToken(layout, page.data(), head, slot, &token.key[at], &token.value[at]);
  }
  return token;
}

void ExpectStored(const KvLayout& layout, const std::vector<float>& wanted,
                  const std::vector<float>& stored) {
  for (int64_t first = 0; first < static_cast<int64_t>(wanted.size()); first += layout.head_size) {
    float largest = 0;
    for (int64_t i = first; i < first + layout.head_size; ++i) {
      largest = std::max(largest, std::fabs(wanted[i]));
    }
    for (int64_t i = first; i < first + layout.head_size; ++i) {
      switch (layout.form) {
        case KvForm::kF32:
          ASSERT_EQ(stored[i], wanted[i]);
          break;
        case KvForm::kBf16:
          ASSERT_EQ(stored[i], Bf16ToFloat(FloatToBf16(wanted[i])));
          break;
        case KvForm::kInt8:
          ASSERT_NEAR(stored[i], wanted[i], largest / 127 * 0.50001);
          break;
      }
    }
  }
}

TEST(KvLayoutTest, StoredTokensComeBackRoundedAndNoneTouchesAnother) {
  for (const KvLayout& layout : Layouts()) {
    SCOPED_TRACE(Describe(layout));
    Page page(layout.page_bytes());  // of exactly that size, which the address sanitizer watches
    std::vector<int64_t> order(layout.page_tokens);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(1));
    for (const int64_t slot : order) {
      Store(layout, page, slot, RandomToken(layout, static_cast<uint32_t>(slot)));
    }
    for (int64_t slot = 0; slot < layout.page_tokens; ++slot) {
      const Token wanted = RandomToken(layout, static_cast<uint32_t>(slot));
      const Token stored = Load(layout, page, slot);
      ASSERT_NO_FATAL_FAILURE(ExpectStored(layout, wanted.key, stored.key)) << "key " << slot;
      ASSERT_NO_FATAL_FAILURE(ExpectStored(layout, wanted.value, stored.value)) << "value " << slot;
    }
  }
}

TEST(KvLayoutTest, StoringAgainWhatWasLoadedChangesNothing) {
  for (const KvLayout& layout : Layouts()) {
    SCOPED_TRACE(Describe(layout));
    Page page(layout.page_bytes()), again(layout.page_bytes());
    for (int64_t slot = 0; slot < layout.page_tokens; ++slot) {
      Store(layout, page, slot, RandomToken(layout, static_cast<uint32_t>(slot)));
      const Token once = Load(layout, page, slot);
      Store(layout, again, slot, once);
      const Token twice = Load(layout, again, slot);
      for (size_t i = 0; i < once.key.size(); ++i) {
        // A scale of int8 may lose its last bit.
        ASSERT_NEAR(twice.key[i], once.key[i], 1e-6 * std::fabs(once.key[i]));
        ASSERT_NEAR(twice.value[i], once.value[i], 1e-6 * std::fabs(once.value[i]));
      }
    }
  }
}

TEST(KvLayoutTest, CopiesTokensBitByBitAndNothingElse) {
  for (const KvLayout& layout : Layouts()) {
    SCOPED_TRACE(Describe(layout));
    Page from(layout.page_bytes()), to(layout.page_bytes());
    for (int64_t slot = 0; slot < layout.page_tokens; ++slot) {
      Store(layout, from, slot, RandomToken(layout, static_cast<uint32_t>(slot)));
      Store(layout, to, slot, RandomToken(layout, static_cast<uint32_t>(slot + 1000)));
    }
    const Page before = to;
    const int64_t source = layout.page_tokens - 3, target = 5;
    CopyToken(layout, from.data(), source, to.data(), target);
    for (int64_t slot = 0; slot < layout.page_tokens; ++slot) {
      const Token token = Load(layout, to, slot);
      const Token expected =
          slot == target ? Load(layout, from, source) : Load(layout, before, slot);
      ASSERT_TRUE(SameBits(token.key, expected.key)) << slot;
      ASSERT_TRUE(SameBits(token.value, expected.value)) << slot;
    }
    // Within a page, as compaction does, and onto itself.
    CopyToken(layout, to.data(), target, to.data(), 11);
    CopyToken(layout, to.data(), 11, to.data(), 11);
    ASSERT_TRUE(SameBits(Load(layout, to, 11).key, Load(layout, from, source).key));
    ASSERT_TRUE(SameBits(Load(layout, to, 11).value, Load(layout, from, source).value));
  }
}

TEST(KvLayoutTest, ZerosAndNumbersTooSmallForAScaleComeBackAsAboutZero) {
  for (const KvLayout& layout : Layouts()) {
    Page page(layout.page_bytes());
    for (const float tiny : {0.0f, 1e-45f, 1e-40f, 1e-38f}) {
      Token token = RandomToken(layout, 0);
      Store(layout, page, 2, token);
      std::fill(token.key.begin(), token.key.end(), 0.0f);
      token.value = token.key;
      for (size_t i = 0; i < token.key.size(); i += 3) token.key[i] = tiny;
      for (size_t i = 1; i < token.value.size(); i += 5) token.value[i] = -tiny;
      Store(layout, page, 2, token);
      const Token stored = Load(layout, page, 2);
      for (size_t i = 0; i < token.key.size(); ++i) {
        ASSERT_NEAR(stored.key[i], token.key[i], 1e-38) << Describe(layout);
        ASSERT_NEAR(stored.value[i], token.value[i], 1e-38) << Describe(layout);
      }
    }
  }
}

TEST(KvLayoutTest, ValuesBeyondTheHeadSizeStayZero) {
  for (const KvForm form : kForms) {
    const KvLayout layout{form, 2, 20, 16};
    Page page(layout.page_bytes());
    for (int64_t slot = 0; slot < 16; ++slot) {
      Store(layout, page, slot, RandomToken(layout, static_cast<uint32_t>(slot)));
    }
    for (int64_t head = 0; head < 2; ++head) {
      // The second tile of dimensions: 4 in use, 12 beyond.
      const std::byte* tile = layout.Values(page.data(), head) + 16 * 16 * layout.value_bytes();
      const int64_t step = form == KvForm::kBf16 ? 2 : 1, lane_bytes = step * layout.value_bytes();
      for (int64_t line = 0; line < 16 / step; ++line) {
        for (int64_t lane = 4; lane < 16; ++lane) {
          for (int64_t b = 0; b < lane_bytes; ++b) {
            ASSERT_EQ(tile[(line * 16 + lane) * lane_bytes + b], std::byte{0});
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ebbinghaus::kernels
