// What a sequence gives does not depend on what of its prompt was there already: hit = miss (memory-spec 6.4, I18), in every
// mode, with others at work in the same pages; and what the pages of an engine add up to.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/engine/engine.h"
#include "server/engine/load_decoder.h"
#include "server/engine/prefix_cache.h"
#include "server/engine/sequence.h"
#include "server/memory/parameters.h"
#include "tests/golden/fixtures.h"

namespace ebbinghaus::golden {
namespace {

using base::GenerationMode;
using base::TokenId;
using kernels::KvForm;
using model::WeightChoice;

constexpr uint32_t kPageTokens = 16;

std::vector<TokenId> Text(uint32_t salt, uint32_t tokens) {
  std::vector<TokenId> ids;
  for (uint32_t p = 0; p < tokens; ++p) ids.push_back((p * 37 + p / 7 + salt * 11) % 97);
  return ids;
}

std::vector<TokenId> Joined(std::vector<TokenId> first, const std::vector<TokenId>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

struct Remembering {
  GenerationMode mode = GenerationMode::kBaseline;
  base::MemoryParameters memory;
  bool observes_all = false;
};

// Ways to remember, some of which forget within a few steps.
std::map<std::string, Remembering> Ways() {
  std::map<std::string, Remembering> ways;
  ways["baseline"] = {};
  Remembering soft{.mode = GenerationMode::kSoftDelete, .memory = {}};
  soft.memory.time_step = 0.3;
  soft.memory.soft_floor = 0.2;
  ways["soft"] = soft;
  soft.memory.soft_form = base::SoftForm::kKvScale;
  soft.memory.prompt_observation = base::PromptObservation::kAll;
  soft.memory.prompt_ticks = 2;
  soft.observes_all = true;
  ways["soft_all"] = soft;
  ways["sparse"] = {.mode = GenerationMode::kSparseAttention, .memory = {}};
  Remembering forgetful{.mode = GenerationMode::kSparseAttention, .memory = {}};
  forgetful.memory.time_step = 3;
  forgetful.memory.reset_threshold = 1;
  forgetful.memory.recent_tokens = 4;
  ways["sparse_forgetful"] = forgetful;
  forgetful.memory.prompt_observation = base::PromptObservation::kWindow;
  forgetful.memory.prompt_window_tokens = 40;
  ways["sparse_window"] = forgetful;
  for (const memory::Preset preset : {memory::Preset::kChat, memory::Preset::kTight}) {
    Remembering way{.mode = GenerationMode::kSparseAttention, .memory = memory::PresetParameters(preset), .observes_all = true};
    ways[std::string(memory::Name(preset))] = way;
    way.memory.recent_tokens = 8;
    way.memory.max_live_tokens = 60;
    way.memory.prompt_ticks = 1;
    ways[std::string(memory::Name(preset)) + "_budget"] = way;
  }
  return ways;
}

base::SequenceSpec Spec(const Remembering& way, std::vector<TokenId> prompt, uint32_t new_tokens) {
  base::SequenceSpec spec;
  spec.prompt = std::move(prompt);
  spec.mode = way.mode;
  spec.memory = way.memory;
  spec.max_new_tokens = new_tokens;
  spec.sampling.temperature = 0;
  return spec;
}

struct Outcome {
  std::vector<std::vector<float>> logits;                                 // after the prompt and after each step
  std::vector<std::tuple<uint32_t, base::Position, uint32_t>> forgotten;  // step, position, layer
  std::vector<std::vector<float>> strength;                               // in the end, of every layer
  std::vector<std::vector<base::Tick>> last_reset;
  bool operator==(const Outcome&) const = default;
};

// A sequence whose tokens are given, one step at a time.
class Forced {
 public:
  Forced(const base::SequenceSpec& spec, std::vector<TokenId> answer, uint32_t chunk, model::Decoder& decoder,
         cache::PagePool& pool, engine::PrefixCache* prefixes)
      : keeps_state_(spec.mode != GenerationMode::kBaseline), answer_(std::move(answer)), chunk_(chunk),
        sequence_(spec, &decoder, &pool, prefixes) {}

  bool done() const { return outcome_.logits.size() == answer_.size() + 1; }
  uint32_t cached() const { return sequence_.cached_prompt_tokens(); }

  void Step() {
    std::vector<base::ForgetEvent> events;
    if (!outcome_.logits.empty()) sequence_.ReplaceLastToken(answer_[outcome_.logits.size() - 1]);
    const auto token = sequence_.Step(chunk_, events);
    if (!token.ok()) throw std::runtime_error(token.status().ToString());
    for (const base::ForgetEvent& e : events) outcome_.forgotten.emplace_back(e.step, e.position, e.layer.value_or(1000));
    if (*token) outcome_.logits.push_back(sequence_.last_logits());
  }

  Outcome Finish() {
    while (!done()) Step();
    for (uint32_t l = 0; keeps_state_ && l < sequence_.cache().layers(); ++l) {
      outcome_.strength.push_back(sequence_.state().layer(l).strength);
      outcome_.last_reset.push_back(sequence_.state().layer(l).last_reset);
    }
    sequence_.KeepPristinePages();
    return outcome_;
  }

 private:
  const bool keeps_state_;
  const std::vector<TokenId> answer_;
  const uint32_t chunk_;
  engine::Sequence sequence_;
  Outcome outcome_;
};

struct Form {
  const char* name;
  bool packed = true;
  WeightChoice weights = WeightChoice::kF32;
  KvForm kv = KvForm::kF32;
};
void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

std::unique_ptr<model::Decoder> Load(const Form& form) {
  const auto checkpoint = model::OpenCheckpoint("tests/golden/models/qwen2").value();
  if (!form.packed) return LoadDecoder(*checkpoint, Engine::kReference);
  return model::PackedDecoder::Load(*checkpoint, {.weights = form.weights, .kv = form.kv, .kernels = &kernels::FastestKernels(),
                                                  .threads = 2, .page_tokens = kPageTokens})
      .value();
}

class HitEqualsMiss : public testing::TestWithParam<Form> {
 protected:
  Outcome Miss(const base::SequenceSpec& spec, const std::vector<TokenId>& answer) {
    return Forced(spec, answer, 512, *decoder_, pool_, nullptr).Finish();
  }
  void Clear() {
    while (prefixes_.DropLeastRecentlyUsed()) {
    }
  }
  // Leaves its pages to those who come.
  void Read(const Remembering& way, const std::vector<TokenId>& prompt, const std::vector<TokenId>& answer = {}, uint32_t chunk = 512) {
    Forced(Spec(way, prompt, static_cast<uint32_t>(answer.size()) + 1), answer, chunk, *decoder_, pool_, &prefixes_).Finish();
  }
  // How many tokens of this prompt would be there.
  uint32_t Cached(const Remembering& way, const std::vector<TokenId>& prompt) {
    return engine::Sequence(Spec(way, prompt, 1), decoder_.get(), &pool_, &prefixes_).cached_prompt_tokens();
  }

  void ExpectSame(const Outcome& actual, const Outcome& expected) const {
    if (GetParam().packed) {
      EXPECT_TRUE(actual == expected);
      return;
    }
    ASSERT_EQ(actual.forgotten, expected.forgotten);
    ASSERT_EQ(actual.logits.size(), expected.logits.size());
    for (size_t step = 0; step < expected.logits.size(); ++step) {
      float worst = 0;
      for (size_t i = 0; i < expected.logits[step].size(); ++i) {
        worst = std::max(worst, std::abs(actual.logits[step][i] - expected.logits[step][i]));
      }
      EXPECT_LE(worst, 1e-4) << "step " << step;
    }
  }

  // With so many tokens from the cache, and then with those that it left itself: as without any.
  void ExpectHit(const Remembering& way, const std::vector<TokenId>& prompt, uint32_t expected_cached) {
    const std::vector<TokenId> answer = Text(9, 24);
    const base::SequenceSpec spec = Spec(way, prompt, static_cast<uint32_t>(answer.size()) + 1);
    const Outcome expected = Miss(spec, answer);
    Forced hit(spec, answer, 512, *decoder_, pool_, &prefixes_);
    EXPECT_EQ(hit.cached(), expected_cached);
    ExpectSame(hit.Finish(), expected);
    Forced again(spec, answer, 7, *decoder_, pool_, &prefixes_);
    EXPECT_GE(again.cached(), expected_cached);
    ExpectSame(again.Finish(), expected);
  }

  const std::unique_ptr<model::Decoder> decoder_ = Load(GetParam());
  cache::PagePool pool_{decoder_->page_shape(), 1 << 26};
  engine::PrefixCache prefixes_{&pool_, static_cast<uint32_t>(decoder_->config().layers)};
};

TEST_P(HitEqualsMiss, WhereThePromptGoesOnFromOneReadInTheSameWay) {
  for (const auto& [name, way] : Ways()) {
    SCOPED_TRACE(name);
    Clear();
    Read(way, Text(1, 103), Text(2, 10));
    ExpectHit(way, Joined(Text(1, 103), Text(3, 50)), way.observes_all ? 103 : 96);
    EXPECT_EQ(pool_.used_pages(), 0u);
    EXPECT_EQ(pool_.used_pages() + pool_.cached_pages() + pool_.free_pages(), pool_.capacity_pages());
  }
}

TEST_P(HitEqualsMiss, WhereAnotherWayReadIt) {
  for (const auto& [reader, read] : Ways()) {
    for (const auto& [name, way] : Ways()) {
      if (reader == name) continue;
      SCOPED_TRACE(reader + " then " + name);
      Clear();
      Read(read, Text(1, 103));
      // Those who observe every row have one threshold in common, so their masses are alike.
      const uint32_t cached = !way.observes_all ? 96 : read.observes_all ? 103 : 0;
      ExpectHit(way, Joined(Text(1, 103), Text(3, 50)), cached);
    }
  }
}

TEST_P(HitEqualsMiss, WhereAPromptIsSentAgain) {
  for (const auto& [name, way] : Ways()) {
    SCOPED_TRACE(name);
    Clear();
    Read(way, Text(1, 128), {}, 50);
    // The window's first row is 88. Who observes all begins where the last pass did, with rows up to there.
    ExpectHit(way, Text(1, 128), way.observes_all ? 100 : name == "sparse_window" ? 80 : 112);
  }
}

TEST_P(HitEqualsMiss, WhereObservedPromptsPartTheThirdFindsWhatTheyHaveInCommon) {
  const Remembering way = Ways()["chat"];
  Read(way, Joined(Text(1, 90), Text(2, 70)), {}, 30);
  EXPECT_EQ(Cached(way, Joined(Text(1, 90), Text(3, 70))), 0u);
  Read(way, Joined(Text(1, 90), Text(3, 70)), {}, 30);
  ExpectHit(way, Joined(Text(1, 90), Text(4, 70)), 60);
}

TEST_P(HitEqualsMiss, WhereTheAnswerIsPartOfTheNextPrompt) {
  for (const char* name : {"baseline", "sparse"}) {  // whose generated K/V is pristine as long as nothing is forgotten
    for (const auto& [next, way] : Ways()) {
      if (way.observes_all) continue;
      SCOPED_TRACE(std::string(name) + " then " + next);
      Clear();
      Read(Ways()[name], Text(1, 70), Text(2, 60));
      ExpectHit(way, Joined(Joined(Text(1, 70), Text(2, 60)), Text(3, 20)), next == "sparse_window" ? 96 : 128);
    }
  }
}

TEST_P(HitEqualsMiss, GeneratedKeysAndValuesThatAreNotPristineAreNotKept) {
  for (const char* name : {"soft", "sparse_forgetful", "tight_budget"}) {
    SCOPED_TRACE(name);
    Clear();
    Read(Ways()[name], Text(1, 70), Text(2, 60));
    ExpectHit(Ways()["baseline"], Joined(Joined(Text(1, 70), Text(2, 60)), Text(3, 20)), 64);
  }
}

TEST_P(HitEqualsMiss, WhileOthersForgetAndWriteInTheSamePages) {
  Read(Ways()["baseline"], Text(1, 103));
  Read(Ways()["chat"], Text(1, 103));
  const std::vector<TokenId> answer = Text(9, 30);
  std::vector<Outcome> expected;
  std::vector<std::unique_ptr<Forced>> running;
  uint64_t held = 0;
  for (const auto& [name, way] : Ways()) {
    for (const std::vector<TokenId>& prompt : {Text(1, 103), Joined(Text(1, 103), Text(3, 20))}) {
      const base::SequenceSpec spec = Spec(way, prompt, 31);
      expected.push_back(Miss(spec, answer));
      running.push_back(std::make_unique<Forced>(spec, answer, 16, *decoder_, pool_, &prefixes_));
      held += decoder_->page_shape().PagesFor(running.back()->cached()) * decoder_->config().layers;
    }
  }
  EXPECT_LT(pool_.used_pages() * 5, held) << "they share";
  size_t forgotten = 0;
  for (int round = 0; round < 60; ++round) {
    for (auto& sequence : running) {
      if (!sequence->done()) sequence->Step();
    }
    ASSERT_EQ(pool_.used_pages() + pool_.cached_pages() + pool_.free_pages(), pool_.capacity_pages());
  }
  for (size_t i = 0; i < running.size(); ++i) {
    const Outcome outcome = running[i]->Finish();
    ExpectSame(outcome, expected[i]);
    forgotten += outcome.forgotten.size();
  }
  EXPECT_GT(forgotten, 100u);
  running.clear();
  EXPECT_EQ(pool_.used_pages(), 0u);
}

INSTANTIATE_TEST_SUITE_P(EveryForm, HitEqualsMiss,
                         testing::Values(Form{"packed_f32"}, Form{"packed_bf16", true, WeightChoice::kBf16, KvForm::kBf16},
                                         Form{"packed_int8", true, WeightChoice::kInt8, KvForm::kInt8}, Form{"reference", false}),
                         [](const auto& info) { return std::string(info.param.name); });

// --- the engine ---

// Fails a pass when told to: without saying so (as an exception), or with bad numbers.
class FragileDecoder final : public model::Decoder {
 public:
  explicit FragileDecoder(std::unique_ptr<model::Decoder> decoder) : decoder_(std::move(decoder)) {}
  const model::ModelConfig& config() const override { return decoder_->config(); }
  cache::PageShape page_shape() const override { return decoder_->page_shape(); }
  uint64_t weight_bytes() const override { return decoder_->weight_bytes(); }
  bool batches() const override { return decoder_->batches(); }
  void Forward(absl::Span<model::Segment> segments) override {
    decoder_->Forward(segments);
    if (breaks) segments[0].status = absl::InternalError("broken");
    if (not_a_number && !segments[0].logits.empty()) std::fill(segments[0].logits.begin(), segments[0].logits.end(), NAN);
  }
  bool breaks = false, not_a_number = false;

 private:
  const std::unique_ptr<model::Decoder> decoder_;
};

class EnginePrefixes : public testing::Test {
 protected:
  void Make(uint64_t pages = 300, bool prefix_cache = true, uint64_t state_allowance_bytes = uint64_t{1} << 30) {
    auto fragile = std::make_unique<FragileDecoder>(Load(Form{"packed_f32"}));
    decoder_ = fragile.get();
    page_bytes_ = decoder_->page_shape().page_bytes();
    engine::LoadedDecoder loaded;
    loaded.decoder = std::move(fragile);
    engine::EngineOptions options;
    options.kv_memory_bytes = pages * page_bytes_;
    options.prefix_cache = prefix_cache;
    options.state_allowance_bytes = state_allowance_bytes;
    engine_ = engine::MakeEngine(std::move(loaded), options).value();
  }
  absl::StatusOr<base::SequenceId> Add(const std::vector<TokenId>& prompt, uint32_t new_tokens = 4, const char* way = "baseline",
                                       const std::string& owner = "") {
    base::SequenceSpec spec = Spec(Ways()[way], prompt, new_tokens);
    spec.cache_owner = owner;
    return engine_->Add(std::move(spec));
  }
  // Reads the prompt and generates all there is to be generated.
  void Run(base::SequenceId id, uint32_t prompt_tokens, uint32_t new_tokens = 4) {
    uint32_t unread = prompt_tokens - engine_->cached_prompt_tokens(id);
    for (uint32_t generated = 0; generated < new_tokens;) {
      const uint32_t rows = std::min(unread, 64u);
      const base::StepOutcome outcome = engine_->Step({{id, rows}}).front();
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      unread -= rows;
      ASSERT_EQ(outcome.token.has_value(), unread == 0);
      if (outcome.token) ++generated;
    }
  }
  uint32_t RunWhole(const std::vector<TokenId>& prompt, uint32_t new_tokens = 4, const char* way = "baseline",
                    const std::string& owner = "") {
    const base::SequenceId id = Add(prompt, new_tokens, way, owner).value();
    const uint32_t cached = engine_->cached_prompt_tokens(id);
    Run(id, static_cast<uint32_t>(prompt.size()), new_tokens);
    engine_->Remove(id);
    return cached;
  }

  FragileDecoder* decoder_ = nullptr;  // engine_'s
  uint64_t page_bytes_ = 0;
  std::unique_ptr<base::Engine> engine_;
};

TEST_F(EnginePrefixes, AreFoundCountedAndFreeWhenNobodyRuns) {
  Make();
  EXPECT_EQ(RunWhole(Text(1, 100)), 0u);
  EXPECT_EQ(engine_->kv_used_bytes(), 0u);
  EXPECT_EQ(engine_->kv_cached_bytes(), 6 * 3 * page_bytes_) << "103 tokens were fed, in 3 layers";
  const base::SequenceId id = Add(Text(1, 100)).value();
  EXPECT_EQ(engine_->cached_prompt_tokens(id), 96u);
  EXPECT_EQ(engine_->kv_used_bytes(), 6 * 3 * page_bytes_);
  EXPECT_EQ(engine_->kv_used_bytes(GenerationMode::kBaseline), engine_->kv_used_bytes());
  EXPECT_EQ(engine_->kv_used_bytes(id), engine_->kv_used_bytes());
  EXPECT_EQ(engine_->kv_cached_bytes(), 0u);
  engine_->Remove(id);
  EXPECT_EQ(engine_->kv_used_bytes(), 0u);
}

// With and without room for it in the workspace.
TEST_F(EnginePrefixes, WhatSequencesNeedBesideTheirKvIsCountedWhenTheyAreAdmitted) {
  const auto fit = [&](const char* way, uint64_t allowance) {
    Make(/*pages=*/3000, true, allowance);
    std::vector<base::SequenceId> ids;
    for (uint32_t salt = 1; ids.size() < 1000; ++salt) {
      const absl::StatusOr<base::SequenceId> id = Add(Text(salt, 100), 28, way);
      if (!id.ok()) {
        EXPECT_TRUE(absl::IsResourceExhausted(id.status()));
        break;
      }
      ids.push_back(*id);
    }
    const size_t fitted = ids.size();
    engine_->Remove(ids.back());
    EXPECT_TRUE(Add(Text(2000, 100), 28, way).ok()) << "what it held is free again";
    return fitted;
  };
  EXPECT_EQ(fit("sparse", uint64_t{1} << 30), 125u) << "8 pages in each of 3 layers";
  const size_t counted = fit("sparse", 0);
  EXPECT_LT(counted, 125u);
  EXPECT_GT(counted, 10u);
  EXPECT_LT(counted, fit("baseline", 0)) << "it keeps no state";
  const size_t some = fit("sparse", 100'000);
  EXPECT_GT(some, counted);
  EXPECT_LT(some, 125u);
}

TEST_F(EnginePrefixes, AnIdenticalPromptNeverGivesItsLastRow) {
  Make();
  RunWhole(Text(1, 96));
  EXPECT_EQ(RunWhole(Text(1, 96)), 80u);
}

TEST_F(EnginePrefixes, OwnersAreApart) {
  Make();
  RunWhole(Text(1, 100), 4, "baseline", "alice");
  EXPECT_EQ(RunWhole(Text(1, 100), 4, "baseline", "bob"), 0u);
  EXPECT_EQ(RunWhole(Text(1, 100), 4, "sparse", "alice"), 96u);
}

TEST_F(EnginePrefixes, CanBeSwitchedOff) {
  Make(300, /*prefix_cache=*/false);
  RunWhole(Text(1, 100));
  EXPECT_EQ(RunWhole(Text(1, 100)), 0u);
  EXPECT_EQ(engine_->kv_cached_bytes(), 0u);
}

TEST_F(EnginePrefixes, AreReclaimedBeforeAnybodyIsRefused) {
  Make(/*pages=*/3 * 8);  // 128 tokens
  for (uint32_t salt = 1; salt < 6; ++salt) {
    RunWhole(Text(salt, 100));
    EXPECT_GT(engine_->kv_cached_bytes(), 0u);
    EXPECT_LE(engine_->kv_cached_bytes(), engine_->kv_capacity_bytes());
  }
  RunWhole(Text(9, 110), 18);  // all there is
  EXPECT_FALSE(Add(Text(9, 110), 40).ok());
}

// Two that share a prefix reserve it both; so each can forget, write and grow as if it were alone.
TEST_F(EnginePrefixes, NobodyAdmittedEverLacksMemory) {
  for (const char* way : {"sparse_forgetful", "tight_budget", "baseline"}) {
    SCOPED_TRACE(way);
    Make(/*pages=*/3 * 16);  // two of 128 tokens
    RunWhole(Text(1, 103), 4, "chat");
    RunWhole(Text(1, 100));
    const std::vector<TokenId> prompt = Joined(Text(1, 103), Text(4, 5));
    const auto first = Add(prompt, 20, way), second = Add(prompt, 20, way);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_FALSE(Add(prompt, 20, way).ok());
    const uint32_t unread = 108 - engine_->cached_prompt_tokens(*first);
    ASSERT_LT(unread, 20u);
    for (const auto& outcome : engine_->Step({{*first, unread}, {*second, unread}})) ASSERT_TRUE(outcome.status.ok());
    for (uint32_t step = 1; step < 20; ++step) {
      for (const auto& outcome : engine_->Step({{*first, 0}, {*second, 0}})) ASSERT_TRUE(outcome.status.ok());
      ASSERT_LE(engine_->kv_used_bytes() + engine_->kv_cached_bytes(), engine_->kv_capacity_bytes());
    }
    engine_->Remove(*first);
    engine_->Remove(*second);
    EXPECT_EQ(engine_->kv_used_bytes(), 0u);
  }
}

TEST_F(EnginePrefixes, AStepThatFailedLeavesNothingBehind) {
  for (const bool broken : {true, false}) {
    for (const char* way : {"baseline", "chat"}) {
      for (const uint32_t read_before : {0, 50}) {  // in a pass that did not fail
        Make();
        const base::SequenceId id = Add(Text(1, 100), 4, way).value();
        if (read_before > 0) engine_->Step({{id, read_before}});
        (broken ? decoder_->breaks : decoder_->not_a_number) = true;
        EXPECT_FALSE(engine_->Step({{id, 100}}).front().status.ok());
        decoder_->breaks = decoder_->not_a_number = false;
        engine_->Remove(id);
        EXPECT_EQ(engine_->kv_used_bytes(), 0u);
        const std::string chat = "chat";
        EXPECT_EQ(RunWhole(Text(1, 100), 4, way), chat == way ? read_before : 0u);
      }
    }
  }
}

TEST_F(EnginePrefixes, APromptThatWasLeftHalfwayServesUpToThere) {
  Make();
  const base::SequenceId id = Add(Text(1, 100)).value();
  engine_->Step({{id, 64}});
  engine_->Remove(id);
  EXPECT_EQ(RunWhole(Text(1, 100)), 64u);
}

}  // namespace
}  // namespace ebbinghaus::golden
