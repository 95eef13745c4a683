#include "client/memory_flag.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ebbinghaus::client {
namespace {

using ::testing::HasSubstr;

// One value for every field of v1.MemoryParameters.
constexpr char kEveryField[] =
    "preset=chat,initial_strength=6,time_step=0.25,reset_threshold=0.02,forget_threshold=0.003,"
    "vote_ratio=0.75,"
    "vote_layers=first_half,scope=consensus,soft_floor=0.5,soft_ceiling=0.9,soft_layer_ratio=0.4,"
    "soft_form=kv_scale,"
    "sink_tokens=1,recent_tokens=2,min_live_tokens=3,max_live_tokens=400,observe_interval=5,prompt_"
    "ticks=6,"
    "prompt_observation=window,prompt_window_tokens=7,strength_cap=8,pinned=0-16,pinned=20-21";

TEST(MemoryFlagTest, EveryFieldOfTheProtoCanBeSet) {
  v1::MemoryParameters memory;
  ASSERT_TRUE(ParseMemory(kEveryField, memory).ok());
  const google::protobuf::Descriptor& type = *v1::MemoryParameters::descriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = type.field(i);
    const bool set = field->is_repeated() ? memory.GetReflection()->FieldSize(memory, field) > 0
                                          : memory.GetReflection()->HasField(memory, field);
    EXPECT_TRUE(set) << field->name();
  }
  EXPECT_EQ(memory.preset(), v1::MEMORY_PRESET_CHAT);
  EXPECT_EQ(memory.vote_layers(), v1::VOTE_LAYERS_FIRST_HALF);
  EXPECT_EQ(memory.soft_form(), v1::SOFT_FORM_KV_SCALE);
  EXPECT_EQ(memory.prompt_observation(), v1::PROMPT_OBSERVATION_WINDOW);
  EXPECT_EQ(memory.strength_cap(), 8);
  ASSERT_EQ(memory.pinned_size(), 2);
  EXPECT_EQ(memory.pinned(0).end(), 16u);
  EXPECT_EQ(memory.pinned(1).begin(), 20u);
}

TEST(MemoryFlagTest, WhatIsFormattedCanBeParsedAgain) {
  v1::MemoryParameters memory, again;
  ASSERT_TRUE(ParseMemory(kEveryField, memory).ok());
  ASSERT_TRUE(ParseMemory(FormatMemory(memory), again).ok()) << FormatMemory(memory);
  EXPECT_EQ(again.SerializeAsString(), memory.SerializeAsString());
  EXPECT_EQ(FormatMemory({}), "");
}

TEST(MemoryFlagTest, MistakesNameTheKeyAndWhatItTakes) {
  v1::MemoryParameters memory;
  const auto error = [&](const char* text) {
    return std::string(ParseMemory(text, memory).message());
  };
  EXPECT_THAT(error("strength=1"),
              HasSubstr("no memory parameter 'strength'; there are preset, initial_strength"));
  EXPECT_THAT(error("time_step"), HasSubstr("time_step needs a value"));
  EXPECT_THAT(error("time_step=fast"), HasSubstr("time_step takes a number, got 'fast'"));
  EXPECT_THAT(error("sink_tokens=-1"), HasSubstr("sink_tokens takes a whole number"));
  EXPECT_THAT(error("scope=layer"), HasSubstr("consensus, per_layer"));
  EXPECT_THAT(error("scope=unspecified"), HasSubstr("consensus, per_layer"));
  EXPECT_THAT(error("pinned=5"), HasSubstr("begin-end"));
  EXPECT_THAT(error(""), HasSubstr("no memory parameter ''"));
}

TEST(MemoryFlagTest, EachModeGetsOnlyWhatItUses) {
  v1::MemoryParameters memory;
  ASSERT_TRUE(ParseMemory(kEveryField, memory).ok());
  EXPECT_EQ(MemoryForMode(v1::GENERATION_MODE_BASELINE, memory).ByteSizeLong(), 0u);

  const v1::MemoryParameters soft = MemoryForMode(v1::GENERATION_MODE_SOFT_DELETE, memory);
  v1::MemoryParameters soft_expected;
  ASSERT_TRUE(
      ParseMemory(
          "preset=chat,initial_strength=6,time_step=0.25,reset_threshold=0.02,soft_floor=0.5,"
          "soft_ceiling=0.9,soft_layer_ratio=0.4,soft_form=kv_scale,observe_interval=5,prompt_"
          "ticks=6,"
          "prompt_observation=window,prompt_window_tokens=7,strength_cap=8",
          soft_expected)
          .ok());
  EXPECT_EQ(soft.SerializeAsString(), soft_expected.SerializeAsString());

  v1::MemoryParameters sparse_expected = memory;
  sparse_expected.clear_soft_floor();
  sparse_expected.clear_soft_ceiling();
  sparse_expected.clear_soft_layer_ratio();
  sparse_expected.clear_soft_form();
  EXPECT_EQ(MemoryForMode(v1::GENERATION_MODE_SPARSE_ATTENTION, memory).SerializeAsString(),
            sparse_expected.SerializeAsString());
}

TEST(MemoryFlagTest, ShortNamesAreTheNamesThatFlagsTake) {
  EXPECT_EQ(ShortName(v1::GENERATION_MODE_SPARSE_ATTENTION), "sparse_attention");
  EXPECT_EQ(ShortName(v1::FINISH_REASON_EOS), "eos");
  EXPECT_EQ(ShortName(static_cast<v1::GenerationMode>(99)), "99");
}

}  // namespace
}  // namespace ebbinghaus::client
