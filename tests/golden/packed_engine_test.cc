// The packed engine against itself and against the reference engine: a sequence's logits and events do not depend, bit for
// bit, on batch mates, threads or prompt chunks (I18, I21); each form stays within what its quantization allows.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "server/engine/sequence.h"
#include "server/memory/parameters.h"
#include "server/model/dequantize.h"
#include "tests/golden/fixtures.h"

namespace ebbinghaus::golden {
namespace {

using base::GenerationMode;
using kernels::KvForm;
using kernels::KernelTable;
using model::WeightChoice;

constexpr uint32_t kSteps = 24;

base::TokenId TokenAt(uint32_t sequence, uint32_t position) { return (position * 37 + position / 7 + sequence * 11) % 97; }

// Five ways to remember, each with a prompt of its own length.
std::vector<base::SequenceSpec> Specs() {
  std::vector<base::SequenceSpec> specs(5);
  const uint32_t lengths[] = {33, 1, 70, 17, 64};
  for (uint32_t s = 0; s < specs.size(); ++s) {
    for (uint32_t p = 0; p < lengths[s]; ++p) specs[s].prompt.push_back(TokenAt(s, p));
    specs[s].max_new_tokens = kSteps + 1;
    specs[s].sampling.temperature = 0;
    specs[s].attention = s % 2 == 0 ? std::optional(base::AttentionRequest{}) : std::nullopt;
  }
  specs[1].mode = specs[2].mode = GenerationMode::kSoftDelete;
  specs[2].memory.soft_form = base::SoftForm::kKvScale;
  for (auto* memory : {&specs[1].memory, &specs[2].memory}) {
    memory->time_step = 0.3;
    memory->soft_floor = 0.2;
    memory->prompt_observation = base::PromptObservation::kAll;
  }
  specs[3].mode = specs[4].mode = GenerationMode::kSparseAttention;
  specs[3].memory.time_step = 3;
  specs[3].memory.reset_threshold = 1;
  specs[3].memory.recent_tokens = 4;
  specs[4].memory = memory::PresetParameters(memory::Preset::kTight);
  specs[4].memory.recent_tokens = 8;
  specs[4].memory.max_live_tokens = 40;
  specs[4].memory.prompt_ticks = 1;
  return specs;
}

struct Outcome {
  std::vector<std::vector<float>> logits;                                // after the prompt and after each step
  std::vector<std::tuple<uint32_t, base::Position, uint32_t>> forgotten;  // step, position, layer
  std::vector<std::vector<float>> attention;                             // weights of every row handed back
  bool operator==(const Outcome&) const = default;
};

void Take(const engine::Sequence& sequence, const std::optional<base::SampledToken>& token,
          const std::vector<base::ForgetEvent>& events, Outcome& outcome) {
  for (const base::ForgetEvent& e : events) outcome.forgotten.emplace_back(e.step, e.position, e.layer.value_or(1000));
  if (!token) return;
  outcome.logits.push_back(sequence.last_logits());
  for (const base::AttentionRow& row : token->attention) outcome.attention.push_back(row.weights);
}

// All sequences at once: every pass takes `chunk` prompt tokens of those that read and a token of those that decode.
std::vector<Outcome> RunTogether(model::Decoder& decoder, const std::vector<base::SequenceSpec>& specs, uint32_t chunk) {
  cache::PagePool pool(decoder.page_shape(), 1 << 28);
  std::vector<std::unique_ptr<engine::Sequence>> sequences;
  for (const auto& spec : specs) sequences.push_back(std::make_unique<engine::Sequence>(spec, &decoder, &pool));
  std::vector<Outcome> outcomes(specs.size());
  while (true) {
    std::vector<size_t> running;
    for (size_t s = 0; s < specs.size(); ++s) {
      if (outcomes[s].logits.size() <= kSteps) running.push_back(s);
    }
    if (running.empty()) return outcomes;
    std::vector<model::Segment> segments;
    std::vector<std::vector<base::ForgetEvent>> events(running.size());
    for (size_t i = 0; i < running.size(); ++i) {
      const size_t s = running[i];
      // Teacher forced, so that a rounding does not send two runs different ways.
      if (!outcomes[s].logits.empty()) {
        sequences[s]->ReplaceLastToken(TokenAt(s, specs[s].prompt.size() + outcomes[s].logits.size()));
      }
      segments.push_back(sequences[s]->Begin(chunk, events[i]));
    }
    decoder.Forward(absl::MakeSpan(segments));
    for (size_t i = 0; i < running.size(); ++i) {
      const auto token = sequences[running[i]]->End(std::move(segments[i]));
      if (!token.ok()) throw std::runtime_error(token.status().ToString());
      Take(*sequences[running[i]], *token, events[i], outcomes[running[i]]);
    }
  }
}

std::vector<Outcome> RunAlone(model::Decoder& decoder, const std::vector<base::SequenceSpec>& specs, uint32_t chunk) {
  std::vector<Outcome> outcomes;
  for (size_t s = 0; s < specs.size(); ++s) {
    cache::PagePool pool(decoder.page_shape(), 1 << 28);
    engine::Sequence sequence(specs[s], &decoder, &pool);
    Outcome outcome;
    while (outcome.logits.size() <= kSteps) {
      std::vector<base::ForgetEvent> events;
      if (!outcome.logits.empty()) {
        sequence.ReplaceLastToken(TokenAt(s, specs[s].prompt.size() + outcome.logits.size()));
      }
      const auto token = sequence.Step(chunk, events);
      if (!token.ok()) throw std::runtime_error(token.status().ToString());
      Take(sequence, *token, events, outcome);
    }
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

struct Forms {
  const char* checkpoint;
  WeightChoice weights;
  KvForm kv;
};
void PrintTo(const Forms& forms, std::ostream* out) { *out << forms.checkpoint; }

std::unique_ptr<model::PackedDecoder> Load(const Forms& forms, int threads,
                                           const KernelTable& kernels = kernels::FastestKernels()) {
  const auto checkpoint = model::OpenCheckpoint(std::string("tests/golden/models/") + forms.checkpoint).value();
  return model::PackedDecoder::Load(*checkpoint, {.weights = forms.weights, .kv = forms.kv, .kernels = &kernels, .threads = threads,
                                                  .page_tokens = 16})
      .value();
}

class PackedEngine : public testing::TestWithParam<Forms> {};

TEST_P(PackedEngine, ASequencesResultsDependOnNothingButItself) {
  const auto specs = Specs();
  for (const KernelTable* kernels : kernels::Tables()) {
    const bool emulated = kernels == &kernels::kEmulatedAvx512Kernels;
    const auto expected = RunAlone(*Load(GetParam(), 1, *kernels), specs, 512);
    EXPECT_FALSE(expected[3].forgotten.empty());
    EXPECT_FALSE(expected[4].forgotten.empty());
    EXPECT_FALSE(expected[0].attention.empty());
    for (const int threads : {1, 2, 3}) {
      if (emulated && threads != 2) continue;  // slow
      const auto decoder = Load(GetParam(), threads, *kernels);
      for (const uint32_t chunk : {1, 16, 512}) {
        if (emulated && chunk != 16) continue;
        SCOPED_TRACE(testing::Message() << kernels->name << ", " << threads << " threads, chunks of " << chunk);
        EXPECT_TRUE(RunTogether(*decoder, specs, chunk) == expected);
      }
    }
  }
}

// Specs in which age alone decides: nothing is strengthened or reset. A rounding turns no decision, so that numbers can be
// compared to the last step.
std::vector<base::SequenceSpec> SpecsDecidedByAge() {
  std::vector<base::SequenceSpec> specs = Specs();
  for (base::SequenceSpec& spec : specs) {
    spec.memory.reset_threshold = 1;
    spec.memory.strength_cap = spec.memory.initial_strength;
  }
  return specs;
}

// The root of the mean square of the differences of all logits. Requires: they forgot alike.
double RootMeanSquareDifference(const std::vector<Outcome>& a, const std::vector<Outcome>& b) {
  double sum = 0, count = 0;
  for (size_t s = 0; s < a.size(); ++s) {
    EXPECT_EQ(a[s].forgotten, b[s].forgotten);
    for (size_t step = 0; step < a[s].logits.size(); ++step) {
      for (size_t i = 0; i < a[s].logits[step].size(); ++i) {
        const double difference = a[s].logits[step][i] - b[s].logits[step][i];
        sum += difference * difference;
        ++count;
      }
    }
  }
  return std::sqrt(sum / count);
}

TEST_P(PackedEngine, EverySetOfKernelsErrsAsItsFormMust) {
  const auto specs = SpecsDecidedByAge();
  const Forms forms = GetParam();
  const KernelTable& portable = *kernels::KernelsFor(kernels::Target::kPortable);
  const auto exact = RunTogether(*Load({forms.checkpoint, WeightChoice::kF32, KvForm::kF32}, 1, portable), specs, 16);
  EXPECT_FALSE(exact[3].forgotten.empty());
  EXPECT_FALSE(exact[4].forgotten.empty());
  const double of_the_form = RootMeanSquareDifference(RunTogether(*Load(forms, 1, portable), specs, 16), exact);
  for (const KernelTable* kernels : kernels::Tables()) {
    const double error = RootMeanSquareDifference(RunTogether(*Load(forms, 2, *kernels), specs, 16), exact);
    // Sums differ in their last bits, fused or not. Where activations are rounded to bf16 as weights and K/V are, there are
    // twice as many roundings of one size, and independent errors add up as their squares do.
    const double roundings = kernels::RoundsActivationsToBf16(*kernels) ? 2 : 1;
    EXPECT_LE(error, 1e-5 + 1.1 * std::sqrt(roundings) * of_the_form) << kernels->name;
  }
}

INSTANTIATE_TEST_SUITE_P(EveryForm, PackedEngine,
                         testing::Values(Forms{"qwen2", WeightChoice::kF32, KvForm::kF32},
                                         Forms{"qwen2", WeightChoice::kBf16, KvForm::kBf16},
                                         Forms{"qwen3", WeightChoice::kInt8, KvForm::kInt8},
                                         Forms{"llama-gqa", WeightChoice::kInt4, KvForm::kBf16},
                                         Forms{"llama-gqa-q8_0.gguf", WeightChoice::kAuto, KvForm::kInt8}),
                         [](const auto& info) { return "case_" + std::to_string(info.index); });

TEST(PackedWeights, Q8_0FilesArePackedWithoutLoss) {
  const auto checkpoint = model::OpenCheckpoint("tests/golden/models/llama-gqa-q8_0.gguf").value();
  kernels::ThreadTeam team(2);
  uint64_t done = 0, all = 1;
  const auto progress = [&](uint64_t d, uint64_t a) {
    EXPECT_GE(d, done);
    done = d;
    all = a;
  };
  const auto weights =
      model::PackWeights(*checkpoint, WeightChoice::kAuto, team, {.approve = {}, .progress = progress}).value();
  EXPECT_EQ(done, all);
  EXPECT_EQ(weights.form_name(), "int8-group32");
  const auto expect_rows = [&](const std::string& name, int64_t rows, int64_t columns, const kernels::PackedMatrix& matrix,
                               int64_t first) {
    const model::TensorView view = checkpoint->Find(name, {rows, columns}).value();
    std::vector<float> stored(columns), unpacked(columns);
    for (int64_t row = 0; row < rows; ++row) {
      model::DequantizeRows(view, row, 1, stored.data());
      kernels::UnpackRow(matrix, first + row, unpacked.data());
      ASSERT_EQ(unpacked, stored) << name << " row " << row;
    }
  };
  const model::ModelConfig& config = checkpoint->config();
  const int64_t q = config.query_heads * config.head_size, kv = config.kv_heads * config.head_size;
  expect_rows("model.embed_tokens.weight", config.vocabulary, config.hidden, weights.embedding, 0);
  const auto& layer = weights.layers[1];
  ASSERT_EQ(layer.query_key_value.parts.size(), 1u);
  const std::string attention = "model.layers.1.self_attn.";
  expect_rows(attention + "q_proj.weight", q, config.hidden, layer.query_key_value.parts[0], 0);
  expect_rows(attention + "k_proj.weight", kv, config.hidden, layer.query_key_value.parts[0], q);
  expect_rows(attention + "v_proj.weight", kv, config.hidden, layer.query_key_value.parts[0], q + kv);
  expect_rows("model.layers.1.mlp.down_proj.weight", config.hidden, config.feed_forward, layer.down.parts[0], 0);
}

TEST(PackedWeights, AutoKeepsWhatTheFileHolds) {
  using kernels::WeightForm;
  using model::FormFor;
  using model::MatrixRole;
  using model::TensorType;
  EXPECT_EQ(FormFor(WeightChoice::kAuto, TensorType::kQ4_0, MatrixRole::kOther), WeightForm::kInt4);
  EXPECT_EQ(FormFor(WeightChoice::kAuto, TensorType::kQ4_1, MatrixRole::kOther), WeightForm::kInt4Min);
  EXPECT_EQ(FormFor(WeightChoice::kAuto, TensorType::kQ8_0, MatrixRole::kTable), WeightForm::kInt8Group);
  EXPECT_EQ(FormFor(WeightChoice::kAuto, TensorType::kQ6K, MatrixRole::kOther), WeightForm::kInt8Group);
  EXPECT_EQ(FormFor(WeightChoice::kAuto, TensorType::kF16, MatrixRole::kOther), WeightForm::kBf16);
  EXPECT_EQ(FormFor(WeightChoice::kInt8, TensorType::kQ4_0, MatrixRole::kOther), WeightForm::kInt8Row);
  EXPECT_EQ(FormFor(WeightChoice::kInt8, TensorType::kQ4_0, MatrixRole::kDown), WeightForm::kInt8Group);
  EXPECT_EQ(FormFor(WeightChoice::kInt4, TensorType::kBf16, MatrixRole::kOther), WeightForm::kInt4Min);
  EXPECT_EQ(FormFor(WeightChoice::kInt4, TensorType::kBf16, MatrixRole::kTable), WeightForm::kInt8Group);
}

TEST(PackedEngineErrors, AFullPoolEndsOnlyTheSequenceAtFault) {
  const auto decoder = Load({"qwen2", WeightChoice::kF32, KvForm::kF32}, 2);
  const auto shape = decoder->page_shape();
  const uint32_t layers = decoder->config().layers;
  cache::PagePool pool(shape, shape.page_bytes() * layers * 2);
  const std::vector<base::TokenId> small(10, 3), large(40, 5);
  cache::KvCache small_cache(&pool, layers), large_cache(&pool, layers);
  std::vector<model::Segment> segments;
  segments.push_back({.tokens = large, .cache = &large_cache});
  segments.push_back({.tokens = small, .cache = &small_cache});
  // The large one takes pages of its first layers before it finds none left; what it holds goes with it.
  decoder->Forward(absl::MakeSpan(segments));
  EXPECT_EQ(segments[0].status.code(), absl::StatusCode::kResourceExhausted);
  large_cache = cache::KvCache(&pool, layers);
  decoder->Forward(absl::MakeSpan(segments).subspan(1));
  EXPECT_TRUE(segments[1].status.ok()) << segments[1].status;
  EXPECT_FALSE(segments[1].logits.empty());
}

}  // namespace
}  // namespace ebbinghaus::golden
