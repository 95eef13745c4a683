// I22: why nothing here sweeps old entries out of a table.
//
// The system this project implements kept its memory in a table beside the cache. An entry began
// when its token first received attention, and was thrown away once its retention fell below 0.005;
// a token without an entry counted as R = 1. A token was masked at R < 0.001, which therefore could
// not happen: on its way down every entry was swept at 0.005 and came back as new. The model of it
// below shows that on a trace; take its sweep away and it masks what our policy forgets. Whoever
// thinks of bounding the memory of state by a sweep: state lives and dies with the slot
// (memory-spec 1).
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "server/memory/parameters.h"
#include "server/memory/policy.h"

namespace ebbinghaus::memory {
namespace {

using base::Position;
using base::Slot;
using base::Tick;

constexpr Position kPrompt = 40;
constexpr uint32_t kSteps = 4500;

// A trace: the prompt's last row looks at every token; then position p of the prompt is looked at
// again every 97 * (p + 1) steps, so that some rest for longer than anything lives and some never
// do; the rest of the attention goes to the newborn.
std::map<Position, double> Row(uint32_t step) {
  std::map<Position, double> row;
  if (step == 0) {
    for (Position p = 0; p < kPrompt; ++p) row[p] = 1.0 / kPrompt;
    return row;
  }
  for (Position p = 0; p < kPrompt; ++p) {
    if (step % (97 * (p + 1)) == 0) row[p] = 0.02;
  }
  row[kPrompt + step - 1] = 1 - 0.02 * static_cast<double>(row.size());
  return row;
}

// One layer's table in the original: strength and accumulated time per token.
class OriginalTable {
 public:
  explicit OriginalTable(bool sweeps) : sweeps_(sweeps) {}

  void Step(uint32_t step) {
    for (auto& [position, entry] : entries_) entry.time += 0.01;
    for (const auto& [position, mass] : Row(step)) {
      Entry& entry = entries_[position];
      entry.strength += mass;
      if (mass >= 0.01) entry.time = 0;
    }
    if (!sweeps_) return;
    swept_ += std::erase_if(entries_, [](const auto& e) { return e.second.Retention() < 0.005; });
  }

  std::set<Position> Masked() const {
    std::set<Position> masked;
    for (const auto& [position, entry] : entries_) {  // no entry: R = 1
      if (entry.Retention() < 0.001) masked.insert(position);
    }
    return masked;
  }

  size_t swept() const { return swept_; }

 private:
  struct Entry {
    double strength = 5, time = 0;
    double Retention() const { return std::exp(-time / strength); }
  };
  const bool sweeps_;
  std::map<Position, Entry> entries_;
  size_t swept_ = 0;
};

std::set<Position> EverMasked(OriginalTable& table) {
  std::set<Position> masked;
  for (uint32_t step = 0; step <= kSteps; ++step) {
    table.Step(step);
    masked.merge(table.Masked());
  }
  return masked;
}

std::set<Position> ForgottenByOurs() {
  const auto policy =
      MakePolicy(base::GenerationMode::kSparseAttention, PresetParameters(Preset::kOriginal), 1);
  RetentionState state = policy->NewState(1);
  std::set<Position> forgotten;
  for (Position p = 0; p < kPrompt; ++p) state.Append(p, 0);
  for (uint32_t step = 0; step <= kSteps; ++step) {
    const auto now = static_cast<Tick>(step);
    if (step > 0) {
      const ForgetDecision decision = policy->Forget(state, now);
      for (const Forgotten& f : decision.forgotten) forgotten.insert(f.position);
      if (!decision.plans.empty()) state.Remove(0, decision.plans[0]);
      state.Append(state.next_position(), now);
    }
    const std::map<Position, double> row = Row(step);
    std::vector<float> mass(state.layer(0).live());
    for (Slot slot = 0; slot < mass.size(); ++slot) {
      const auto found = row.find(state.layer(0).position[slot]);
      if (found != row.end()) mass[slot] = static_cast<float>(found->second);
    }
    state.Observe(0, mass, 1, now);
  }
  return forgotten;
}

TEST(OriginalSweepTest, TheOriginalsSweepMeansThatNothingIsEverMasked) {
  OriginalTable table(/*sweeps=*/true);
  EXPECT_TRUE(EverMasked(table).empty());
  EXPECT_GT(table.swept(), 100u) << "the trace is long enough: entries did fade away";
}

TEST(OriginalSweepTest, WithoutASweepTheSameTraceForgets) {
  OriginalTable table(/*sweeps=*/false);
  const std::set<Position> masked = EverMasked(table);
  EXPECT_TRUE(masked.count(38)) << "looked at every 3,783 steps";
  EXPECT_FALSE(masked.count(0)) << "looked at every 97 steps";
  EXPECT_EQ(ForgottenByOurs(), masked);
}

}  // namespace
}  // namespace ebbinghaus::memory
