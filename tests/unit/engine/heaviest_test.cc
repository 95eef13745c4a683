#include "server/engine/heaviest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

namespace ebbinghaus::engine {
namespace {

using base::Position;

TEST(Heaviest, IsWhatSortingByFallingMassAndRisingPositionGives) {
  std::mt19937 random(1);
  const auto upto = [&](uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n)(random); };
  for (int i = 0; i < 200; ++i) {
    const uint32_t size = i % 4 == 0 ? 2000 + upto(6000) : upto(50);
    std::vector<float> mass(size);
    for (float& m : mass) m = upto(3) == 0 ? 0.0f : std::exp(-static_cast<float>(upto(40)) / 2);  // many are equal
    std::vector<Position> positions(size);
    std::iota(positions.begin(), positions.end(), 7u);
    const bool slots_are_positions = upto(1) == 0;
    if (slots_are_positions) {
      std::iota(positions.begin(), positions.end(), 0u);
    } else {
      for (Position& p : positions) p *= 1 + upto(1) * 600'000;  // positions of many digits too
      std::sort(positions.begin(), positions.end());
      positions.erase(std::unique(positions.begin(), positions.end()), positions.end());
      mass.resize(positions.size());
      std::shuffle(positions.begin(), positions.end(), random);
    }
    for (const uint32_t top_k : {0u, 1u, 32u, 1500u, 100'000u}) {
      std::vector<uint32_t> slots(mass.size());
      std::iota(slots.begin(), slots.end(), 0u);
      std::sort(slots.begin(), slots.end(), [&](uint32_t a, uint32_t b) {
        return mass[a] > mass[b] || (mass[a] == mass[b] && positions[a] < positions[b]);
      });
      if (top_k != 0 && top_k < slots.size()) slots.resize(top_k);
      const base::AttentionRow heaviest =
          Heaviest(3, mass, slots_are_positions ? absl::Span<const Position>() : absl::MakeConstSpan(positions), top_k);
      ASSERT_EQ(heaviest.layer, 3u);
      ASSERT_EQ(heaviest.positions.size(), slots.size());
      for (size_t k = 0; k < slots.size(); ++k) {
        ASSERT_EQ(heaviest.positions[k], positions[slots[k]]) << "rank " << k << " of " << slots.size();
        ASSERT_EQ(heaviest.weights[k], mass[slots[k]]);
      }
    }
  }
}

TEST(Heaviest, WhatIsNoMassCountsAsNothing) {
  const std::vector<float> mass = {NAN, 0.5f, -1.0f, 0.25f, -0.0f};
  const base::AttentionRow heaviest = Heaviest(0, mass, {}, 0);
  EXPECT_EQ(heaviest.positions, (std::vector<Position>{1, 3, 0, 2, 4}));
  EXPECT_EQ(heaviest.weights, (std::vector<float>{0.5f, 0.25f, 0, 0, 0}));
}

}  // namespace
}  // namespace ebbinghaus::engine
