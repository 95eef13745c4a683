// What the prefix cache keeps can be given back, as the warm-up does.
#include <gtest/gtest.h>

#include "server/engine/engine.h"
#include "server/model/checkpoint.h"

namespace ebbinghaus::engine {
namespace {

TEST(DropCachedPrompts, GivesBackWhatWasKeptOfSequencesThatAreGone) {
  const auto checkpoint = model::OpenCheckpoint("tests/golden/models/llama").value();
  const auto engine = MakeEngine(*checkpoint, {.engine = "packed", .device = "cpu", .kv_memory_bytes = 64 << 20}).value();
  base::SequenceSpec spec;
  spec.prompt.assign(100, 5);
  spec.max_new_tokens = 4;
  const base::SequenceId sequence = engine->Add(spec).value();
  ASSERT_TRUE(engine->Step({{sequence, 100}}).front().status.ok());
  engine->Remove(sequence);
  ASSERT_GT(engine->kv_cached_bytes(), 0u);
  engine->DropCachedPrompts();
  EXPECT_EQ(engine->kv_cached_bytes(), 0u);
  const base::SequenceId again = engine->Add(spec).value();
  EXPECT_EQ(engine->cached_prompt_tokens(again), 0u);
  engine->Remove(again);
}

}  // namespace
}  // namespace ebbinghaus::engine
