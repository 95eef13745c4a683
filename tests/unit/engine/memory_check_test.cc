// Whether a model fits is known before its weights take memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "server/engine/engine.h"
#include "server/engine/kv_memory.h"
#include "server/engine/load_decoder.h"
#include "server/model/checkpoint.h"

namespace ebbinghaus::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kModels[] = {"llama", "llama-gqa", "qwen2", "qwen3", "llama-gqa-q8_0.gguf", "qwen2-f16.gguf"};

std::unique_ptr<model::Checkpoint> Open(const std::string& name) {
  return model::OpenCheckpoint("tests/golden/models/" + name).value();
}

TEST(MemoryCheck, KnowsBeforehandToTheByteWhatTheWeightsTake) {
  for (const char* name : kModels) {
    const auto checkpoint = Open(name);
    for (const std::string engine : {"packed", "reference"}) {
      for (const std::string weights : {"auto", "f32", "bf16", "int8", "int4"}) {
        if (engine == "reference" && weights.starts_with("int")) continue;
        EngineOptions options{.engine = engine, .weights = weights, .device = "cpu"};
        uint64_t foretold = 0, page_bytes = 0;
        const auto loaded = LoadDecoder(*checkpoint, options, [&](uint64_t bytes, const cache::PageShape& page) {
          foretold = bytes;
          page_bytes = page.page_bytes();
          return absl::OkStatus();
        });
        ASSERT_TRUE(loaded.ok()) << loaded.status();
        EXPECT_EQ(foretold, loaded->decoder->weight_bytes()) << name << " " << engine << " " << weights;
        EXPECT_EQ(page_bytes, loaded->decoder->page_shape().page_bytes()) << name << " " << engine;
      }
    }
  }
}

TEST(MemoryCheck, AModelThatDoesNotFitIsRefusedWithTheSumBeforeAnythingIsPacked) {
  const auto checkpoint = Open("llama");
  for (const char* engine : {"packed", "reference"}) {
    for (const uint64_t kv_memory : {uint64_t{0}, uint64_t{64} << 20}) {
      EngineOptions options{.engine = engine, .device = "cpu", .kv_memory_bytes = kv_memory,
                            .memory_limit_bytes = kWorkspaceBytes};
      options.progress = [](uint64_t, uint64_t) { FAIL() << "packing has begun"; };
      const absl::Status refused = MakeEngine(*checkpoint, options).status();
      EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << engine;
      EXPECT_THAT(std::string(refused.message()),
                  AllOf(HasSubstr("weights "), HasSubstr("workspace 536 MB"), HasSubstr(kv_memory ? "--kv-memory 67 MB" : "K/V of at least"),
                        HasSubstr(kv_memory ? "has 536 MB" : "are 429 MB")));
    }
  }
}

}  // namespace
}  // namespace ebbinghaus::engine
