#include "server/engine/heaviest.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

namespace ebbinghaus::engine {
namespace {

using base::Position;

struct Entry {
  uint32_t key = 0;  // rises as the mass falls
  Position position = 0;
};

// A positive float has the order of its bits.
uint32_t FallingKey(float mass) {
  uint32_t bits;
  if (!(mass > 0)) return ~uint32_t{0};
  std::memcpy(&bits, &mass, sizeof bits);
  return ~bits;
}

bool Before(const Entry& a, const Entry& b) {
  return a.key != b.key ? a.key < b.key : a.position < b.position;
}

// One stable pass of a radix sort, over eleven bits of what `digits` gives.
template <typename Digits>
void SortPass(std::vector<Entry>& entries, std::vector<Entry>& scratch, int shift, Digits digits) {
  constexpr uint32_t kMask = (1u << 11) - 1;
  std::array<uint32_t, kMask + 1> ends{};
  for (const Entry& e : entries) ++ends[(digits(e) >> shift) & kMask];
  if (std::any_of(ends.begin(), ends.end(), [&](uint32_t n) { return n == entries.size(); })) return;
  std::exclusive_scan(ends.begin(), ends.end(), ends.begin(), 0u);
  for (const Entry& e : entries) scratch[ends[(digits(e) >> shift) & kMask]++] = e;
  entries.swap(scratch);
}

void Sort(std::vector<Entry>& entries, bool by_position_already) {
  std::vector<Entry> scratch(entries.size());
  for (const int shift : {0, 11, 22}) {
    if (by_position_already) break;
    SortPass(entries, scratch, shift, [](const Entry& e) { return e.position; });
  }
  for (const int shift : {0, 11, 22}) {
    SortPass(entries, scratch, shift, [](const Entry& e) { return e.key; });
  }
}

}  // namespace

base::AttentionRow Heaviest(uint32_t layer, absl::Span<const float> mass, absl::Span<const Position> positions,
                            uint32_t top_k) {
  std::vector<Entry> entries(mass.size());
  for (size_t slot = 0; slot < mass.size(); ++slot) {
    entries[slot] = {FallingKey(mass[slot]), positions.empty() ? static_cast<Position>(slot) : positions[slot]};
  }
  const size_t kept = top_k == 0 ? entries.size() : std::min<size_t>(top_k, entries.size());
  bool rising = positions.empty();
  if (kept < entries.size()) {
    std::nth_element(entries.begin(), entries.begin() + kept, entries.end(), Before);
    entries.resize(kept);
    rising = false;
  }
  if (kept < 1024) {
    std::sort(entries.begin(), entries.end(), Before);
  } else {
    Sort(entries, rising);
  }
  base::AttentionRow heaviest{.layer = layer, .positions = {}, .weights = {}};
  heaviest.positions.reserve(kept);
  heaviest.weights.reserve(kept);
  for (const Entry& e : entries) {
    const uint32_t bits = ~e.key;
    float weight;
    std::memcpy(&weight, &bits, sizeof weight);
    heaviest.positions.push_back(e.position);
    heaviest.weights.push_back(weight);
  }
  return heaviest;
}

}  // namespace ebbinghaus::engine
