#include "server/scheduler/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "server/scheduler/prompt_reader.h"
#include "tests/support/byte_tokenizer.h"
#include "tests/support/fake_engine.h"

namespace ebbinghaus::scheduler {
namespace {

using base::GenerationMode;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

class AdmissionTest : public ::testing::Test {
 protected:
  AdmissionTest() : model_(support::FakeModel()) { Reset(); }

  void Reset() {
    AdmissionOptions options;
    options.random = [this] { return ++random_; };
    admission_.emplace(std::move(options), model_, text_);
  }

  static GenerationRequest Good(std::string text = "hello") {
    GenerationRequest request;
    request.input = std::move(text);
    return request;
  }

  std::vector<std::string> FieldsOf(GenerationRequest request) {
    violations_ = {};
    const auto admitted = admission_->Admit(std::move(request), violations_);
    EXPECT_EQ(admitted.has_value(), violations_.empty());
    std::vector<std::string> fields;
    for (const base::Violation& violation : violations_.all()) fields.push_back(violation.field);
    return fields;
  }

  AdmittedRequest Admitted(GenerationRequest request) {
    violations_ = {};
    auto admitted = admission_->Admit(std::move(request), violations_);
    EXPECT_TRUE(admitted.has_value()) << violations_.ToStatus();
    return admitted ? *std::move(admitted) : AdmittedRequest{};
  }

  static std::vector<base::TokenId> AllIds() {
    std::vector<base::TokenId> ids(support::kByteVocabulary);
    std::iota(ids.begin(), ids.end(), 0);
    return ids;
  }

  base::ModelInfo model_;  // vocabulary 258, context 1000, 4 layers
  std::shared_ptr<text::TextModel> text_ = support::ByteTextModel();
  std::optional<Admission> admission_;
  base::Violations violations_;
  uint64_t random_ = 0;
};

struct BadRow {
  const char* name;
  std::function<void(GenerationRequest&)> spoil;
  std::vector<std::string> fields;
  std::vector<std::string> told;  // what the first description must hold
};

TEST_F(AdmissionTest, EveryBadValueNamesItsFieldAndWhatIsAllowed) {
  using R = GenerationRequest;
  const std::vector<BadRow> rows = {
      {"no input", [](R& r) { r.input = std::monostate{}; }, {"input"}, {"text", "token_ids", "chat"}},
      {"empty text", [](R& r) { r.input = ""; }, {"text"}, {"empty"}},
      {"no ids", [](R& r) { r.input = TokenInput{}; }, {"token_ids.ids"}, {"at least one"}},
      {"id too large", [](R& r) { r.input = TokenInput{1, 258, 900}; }, {"token_ids.ids"}, {"[0, 257]", "index 1"}},
      {"chat without template", [](R& r) { r.input = ChatInput{.messages = {{"user", "hi"}}}; }, {"chat"}, {"template"}},
      {"prompt as long as the context", [](R& r) { r.input = std::string(1000, 'x'); }, {"text"}, {"999", "1000"}},
      {"ids as long as the context", [](R& r) { r.input = TokenInput(1000, 1); }, {"token_ids.ids"}, {"999", "1000"}},
      {"text beyond all measure", [](R& r) { r.input = std::string(50'000, 'x'); }, {"text"}, {"36000"}},

      {"temperature below", [](R& r) { r.sampling.temperature = -0.01; }, {"sampling.temperature"}, {"[0, 2]"}},
      {"temperature above", [](R& r) { r.sampling.temperature = 2.01; }, {"sampling.temperature"}, {"[0, 2]"}},
      {"temperature nan", [](R& r) { r.sampling.temperature = kNan; }, {"sampling.temperature"}, {"[0, 2]"}},
      {"temperature inf", [](R& r) { r.sampling.temperature = kInf; }, {"sampling.temperature"}, {"[0, 2]"}},
      {"top_p zero", [](R& r) { r.sampling.top_p = 0; }, {"sampling.top_p"}, {"(0, 1]"}},
      {"top_p above", [](R& r) { r.sampling.top_p = 1.1; }, {"sampling.top_p"}, {"(0, 1]"}},
      {"top_p nan", [](R& r) { r.sampling.top_p = kNan; }, {"sampling.top_p"}, {"(0, 1]"}},
      {"min_p below", [](R& r) { r.sampling.min_p = -0.1; }, {"sampling.min_p"}, {"[0, 1]"}},
      {"min_p above", [](R& r) { r.sampling.min_p = 1.1; }, {"sampling.min_p"}, {"[0, 1]"}},
      {"min_p nan", [](R& r) { r.sampling.min_p = -kNan; }, {"sampling.min_p"}, {"[0, 1]"}},
      {"repetition zero", [](R& r) { r.sampling.repetition_penalty = 0; }, {"sampling.repetition_penalty"}, {"(0, 10]"}},
      {"repetition that is zero as fp32",
       [](R& r) { r.sampling.repetition_penalty = 1e-46; },
       {"sampling.repetition_penalty"},
       {"(0, 10] as a 32-bit real"}},
      {"top_p that is zero as fp32", [](R& r) { r.sampling.top_p = 1e-46; }, {"sampling.top_p"}, {"(0, 1]"}},
      {"repetition above",
       [](R& r) { r.sampling.repetition_penalty = 10.1; },
       {"sampling.repetition_penalty"},
       {"(0, 10]"}},
      {"presence below", [](R& r) { r.sampling.presence_penalty = -2.1; }, {"sampling.presence_penalty"}, {"[-2, 2]"}},
      {"presence inf", [](R& r) { r.sampling.presence_penalty = -kInf; }, {"sampling.presence_penalty"}, {"[-2, 2]"}},
      {"frequency above", [](R& r) { r.sampling.frequency_penalty = 2.1; }, {"sampling.frequency_penalty"}, {"[-2, 2]"}},
      {"frequency nan", [](R& r) { r.sampling.frequency_penalty = kNan; }, {"sampling.frequency_penalty"}, {"[-2, 2]"}},
      {"top_k above", [](R& r) { r.sampling.top_k = 259; }, {"sampling.top_k"}, {"[0, 258]"}},
      {"bias id", [](R& r) { r.sampling.logit_bias = {{258, 1.0}}; }, {"sampling.logit_bias"}, {"[0, 257]"}},
      {"bias below", [](R& r) { r.sampling.logit_bias = {{1, -100.5}}; }, {"sampling.logit_bias"}, {"[-100, 100]"}},
      {"bias nan", [](R& r) { r.sampling.logit_bias = {{1, kNan}}; }, {"sampling.logit_bias"}, {"[-100, 100]"}},

      {"no new tokens", [](R& r) { r.max_new_tokens = 0; }, {"max_new_tokens"}, {"[1, 995]", "text"}},
      {"more than the context leaves", [](R& r) { r.max_new_tokens = 996; }, {"max_new_tokens"}, {"[1, 995]", "text"}},
      {"huge max", [](R& r) { r.max_new_tokens = UINT32_MAX; }, {"max_new_tokens"}, {"[1, 995]"}},
      {"min above max",
       [](R& r) { r.max_new_tokens = 5, r.min_new_tokens = 6; },
       {"min_new_tokens"},
       {"max_new_tokens", "5", "6"}},
      {"min above the default of max", [](R& r) { r.min_new_tokens = 101; }, {"min_new_tokens"}, {"max_new_tokens"}},

      {"too many stops", [](R& r) { r.stop.assign(17, "x"); }, {"stop"}, {"16"}},
      {"empty stop", [](R& r) { r.stop = {"a", ""}; }, {"stop[1]"}, {"1 to 256"}},
      {"long stop", [](R& r) { r.stop = {std::string(257, 'x')}; }, {"stop[0]"}, {"1 to 256"}},
      {"stop not utf-8", [](R& r) { r.stop = {"\xff"}; }, {"stop[0]"}, {"UTF-8"}},
      {"stop id", [](R& r) { r.stop_token_ids = {0, 258}; }, {"stop_token_ids"}, {"[0, 257]"}},
      {"no id may come",
       [](R& r) { r.stop_token_ids = AllIds(), r.min_new_tokens = 1; },
       {"stop_token_ids"},
       {"min_new_tokens (1)", "258"}},

      {"attention options alone",
       [](R& r) { r.attention.emplace(); },
       {"attention"},
       {"return_attention_weights"}},
      {"attention layer",
       [](R& r) { r.return_attention_weights = true, r.attention = {{{3, 4}, 32, 1}}; },
       {"attention.layers"},
       {"[0, 3]"}},
      {"attention never",
       [](R& r) { r.return_attention_weights = true, r.attention = {{{}, 32, 0}}; },
       {"attention.every_n_tokens"},
       {"at least 1"}},
      {"too many logprobs",
       [](R& r) { r.return_logprobs = true, r.top_logprobs = 21; },
       {"top_logprobs"},
       {"[0, 20]"}},
      {"logprobs without asking", [](R& r) { r.top_logprobs = 3; }, {"top_logprobs"}, {"return_logprobs"}},
      {"long id", [](R& r) { r.request_id = std::string(129, 'x'); }, {"request_id"}, {"128"}},
      {"id with a line break", [](R& r) { r.request_id = "a\nb"; }, {"request_id"}, {"printable"}},
      {"id beyond ascii", [](R& r) { r.request_id = "\xc3\xa9"; }, {"request_id"}, {"printable"}},

      {"memory for baseline", [](R& r) { r.memory.emplace().time_step = 1; }, {"memory"}, {}},
      {"memory of the other mode",
       [](R& r) {
         r.generation_mode = GenerationMode::kSparseAttention;
         r.memory.emplace().soft_floor = 0.5;
       },
       {"memory.soft_floor"},
       {}},
      {"memory out of range",
       [](R& r) {
         r.generation_mode = GenerationMode::kSoftDelete;
         r.memory.emplace().soft_floor = 0;
       },
       {"memory.soft_floor"},
       {}},
  };
  ASSERT_THAT(FieldsOf(Good()), IsEmpty());
  for (const BadRow& row : rows) {
    SCOPED_TRACE(row.name);
    GenerationRequest request = Good();
    row.spoil(request);
    EXPECT_EQ(FieldsOf(request), row.fields);
    if (violations_.empty()) continue;
    for (const std::string& words : row.told) EXPECT_THAT(violations_.all()[0].description, HasSubstr(words));
  }
}

TEST_F(AdmissionTest, TheEdgesOfEveryRangeAreAllowed) {
  GenerationRequest low = Good();
  low.sampling.temperature = 0;
  low.sampling.top_p = 1e-9;
  low.sampling.min_p = 0;
  low.sampling.repetition_penalty = 1e-9;
  low.sampling.presence_penalty = low.sampling.frequency_penalty = -2;
  low.sampling.top_k = 0;
  low.sampling.logit_bias = {{0, -100}};
  low.max_new_tokens = 1;
  low.min_new_tokens = 0;
  low.stop = {"x"};
  low.top_logprobs = 0;
  low.return_attention_weights = true;
  low.attention = {{{0}, 0, 1}};
  low.request_id = " ";
  EXPECT_THAT(FieldsOf(low), IsEmpty());
  GenerationRequest high = Good();
  high.sampling.temperature = 2;
  high.sampling.top_p = high.sampling.min_p = 1;
  high.sampling.repetition_penalty = 10;
  high.sampling.presence_penalty = high.sampling.frequency_penalty = 2;
  high.sampling.top_k = 258;
  high.sampling.logit_bias = {{257, 100}};
  high.max_new_tokens = high.min_new_tokens = 995;
  high.stop.assign(16, std::string(256, 'x'));
  high.stop_token_ids = {257};
  high.return_logprobs = true;
  high.top_logprobs = 20;
  high.return_attention_weights = true;
  high.attention = {{{3, 3, 0}, UINT32_MAX, UINT32_MAX}};
  high.request_id = std::string(128, '~');
  EXPECT_THAT(FieldsOf(high), IsEmpty());
  EXPECT_THAT(FieldsOf(Good(std::string(999, 'x'))), IsEmpty());
}

TEST_F(AdmissionTest, EverythingThatIsWrongIsToldAtOnceAndWhatTheCallerFoundCountsToo) {
  GenerationRequest request = Good(std::string(2000, 'x'));
  request.sampling.temperature = 3;
  request.sampling.top_p = 2;
  request.max_new_tokens = 0;
  request.stop = {""};
  request.top_logprobs = 30;
  request.request_id = "\n";
  violations_.Add("generation_mode", "unknown");
  EXPECT_FALSE(admission_->Admit(std::move(request), violations_).has_value());
  std::vector<std::string> fields;
  for (const base::Violation& violation : violations_.all()) fields.push_back(violation.field);
  EXPECT_THAT(fields, ElementsAre("generation_mode", "text", "max_new_tokens", "sampling.temperature",
                                  "sampling.top_p", "stop[0]", "top_logprobs", "top_logprobs", "request_id"));
}

TEST_F(AdmissionTest, NothingIsAdmittedIfTheCallerFoundSomething) {
  violations_.Add("generation_mode", "unknown");
  EXPECT_FALSE(admission_->Admit(Good(), violations_).has_value());
}

TEST_F(AdmissionTest, ErrorsNeverRepeatWhatTheClientWrote) {
  const std::string secret = "SECRETWORD";
  GenerationRequest request = Good();
  request.input = ChatInput{.messages = {{"user", secret}, {"", secret}}};
  request.stop = {std::string(300, 'x') + secret, secret + "\xff"};
  request.request_id = secret + "\n";
  ASSERT_THAT(FieldsOf(request), Not(IsEmpty()));
  EXPECT_THAT(std::string(violations_.ToStatus().message()), Not(HasSubstr(secret)));
  std::string text;
  while (text.size() < 40'000) text += secret;
  EXPECT_THAT(FieldsOf(Good(text)), ElementsAre("text"));
  EXPECT_THAT(std::string(violations_.ToStatus().message()), Not(HasSubstr(secret)));
  request.input = TokenInput{4'000'777'777};
  ASSERT_THAT(FieldsOf(request), Not(IsEmpty()));
  EXPECT_THAT(std::string(violations_.ToStatus().message()), Not(HasSubstr("4000777777")));
}

TEST_F(AdmissionTest, DefaultsAreThoseOfTheContract) {
  const AdmittedRequest admitted = Admitted(Good("hello"));
  const base::SequenceSpec& spec = *admitted.spec;
  EXPECT_THAT(spec.prompt, ElementsAre('h', 'e', 'l', 'l', 'o'));
  EXPECT_EQ(spec.mode, GenerationMode::kBaseline);
  EXPECT_EQ(spec.max_new_tokens, 100u);
  EXPECT_EQ(spec.min_new_tokens, 0u);
  EXPECT_EQ(spec.sampling.temperature, 0.7);
  EXPECT_EQ(spec.sampling.top_p, 0.9);
  EXPECT_EQ(spec.sampling.top_k, 0u);
  EXPECT_EQ(spec.sampling.min_p, 0);
  EXPECT_EQ(spec.sampling.repetition_penalty, 1);
  EXPECT_FALSE(spec.return_logprobs);
  EXPECT_FALSE(spec.attention.has_value());
  EXPECT_THAT(spec.end_token_ids, ElementsAre(support::kEosToken));
  EXPECT_THAT(admitted.eos_token_ids, ElementsAre(support::kEosToken));
}

TEST_F(AdmissionTest, TheDefaultLengthIsWhatTheContextLeavesWhereThatIsLess) {
  EXPECT_EQ(Admitted(Good(std::string(899, 'x'))).spec->max_new_tokens, 100u);
  EXPECT_EQ(Admitted(Good(std::string(901, 'x'))).spec->max_new_tokens, 99u);
  EXPECT_EQ(Admitted(Good(std::string(999, 'x'))).spec->max_new_tokens, 1u);
}

TEST_F(AdmissionTest, TheServersDefaultModeAndPresetHoldUnlessTheRequestSaysOtherwise) {
  AdmissionOptions options;
  options.default_mode = GenerationMode::kSparseAttention;
  options.default_preset = memory::Preset::kTight;
  admission_.emplace(std::move(options), model_, text_);
  EXPECT_EQ(Admitted(Good()).spec->mode, GenerationMode::kSparseAttention);
  EXPECT_EQ(Admitted(Good()).spec->memory.time_step, memory::PresetParameters(memory::Preset::kTight).time_step);
  GenerationRequest request = Good();
  request.generation_mode = GenerationMode::kSoftDelete;
  request.memory.emplace().preset = memory::Preset::kChat;
  request.memory->initial_strength = 7;
  const AdmittedRequest admitted = Admitted(request);
  EXPECT_EQ(admitted.spec->mode, GenerationMode::kSoftDelete);
  EXPECT_EQ(admitted.spec->memory.time_step, memory::PresetParameters(memory::Preset::kChat).time_step);
  EXPECT_EQ(admitted.spec->memory.initial_strength, 7);
}

TEST_F(AdmissionTest, TheMemoryClockMustNotOverflow) {
  model_.context_tokens = 3'000'000;
  Reset();
  GenerationRequest request = Good();
  request.generation_mode = GenerationMode::kSparseAttention;
  request.memory.emplace().prompt_observation = base::PromptObservation::kAll;
  request.memory->prompt_ticks = 1000;
  request.input = TokenInput(2'147'483, 1);
  request.max_new_tokens = 647;  // 2,147,483,000 + 647 is the largest int32
  EXPECT_THAT(FieldsOf(request), IsEmpty());
  request.max_new_tokens = 648;
  EXPECT_THAT(FieldsOf(request), ElementsAre("memory.prompt_ticks"));
  const std::string message(violations_.ToStatus().message());
  EXPECT_THAT(message, HasSubstr("2147483647"));
  EXPECT_THAT(message, HasSubstr("token_ids.ids"));
  EXPECT_THAT(message, HasSubstr("max_new_tokens"));
}

// Messages as "role=content;"; refuses the role `robot` in words of its own, and `parrot` by quoting what it said.
constexpr char kTemplate[] =
    "{% for m in messages %}{% if m.role == 'robot' %}{{ raise_exception('no robots here') }}{% endif %}"
    "{% if m.role == 'parrot' %}{{ raise_exception('heard: ' + m.content) }}{% endif %}"
    "{% if m.role != 'silent' %}{{ m.role }}={{ m.content }};{% endif %}{% endfor %}";

class ChatAdmissionTest : public AdmissionTest {
 protected:
  ChatAdmissionTest() {
    auto parsed = text::ChatTemplate::Parse(kTemplate, {});
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    text_->chat_template = *std::move(parsed);
    Reset();
  }
  static GenerationRequest Say(std::vector<text::ChatMessage> messages) {
    GenerationRequest request;
    request.input = ChatInput{.messages = std::move(messages)};
    return request;
  }
};

TEST_F(ChatAdmissionTest, AChatIsRenderedWithTheModelsTemplate) {
  const AdmittedRequest admitted = Admitted(Say({{"user", "hi"}, {"user", "ho"}}));
  const auto& prompt = admitted.spec->prompt;
  EXPECT_EQ(std::string(prompt.begin(), prompt.end()), "user=hi;user=ho;");
}

TEST_F(ChatAdmissionTest, BadChatsNameWhatIsWrong) {
  EXPECT_THAT(FieldsOf(Say({})), ElementsAre("chat.messages"));
  EXPECT_THAT(FieldsOf(Say({{"user", "hi"}, {"", "x"}, {"", "y"}})),
              ElementsAre("chat.messages[1].role", "chat.messages[2].role"));
  EXPECT_THAT(FieldsOf(Say({{"silent", "hi"}})), ElementsAre("chat.messages"));
  EXPECT_THAT(FieldsOf(Say({{"user", std::string(995, 'x')}})), ElementsAre("chat.messages"));
  EXPECT_THAT(violations_.all()[0].description, HasSubstr("999"));
  EXPECT_THAT(FieldsOf(Say({{"user", std::string(20'000, 'x')}, {"user", std::string(20'000, 'x')}})),
              ElementsAre("chat.messages"));
  EXPECT_THAT(violations_.all()[0].description, HasSubstr("36000"));
}

TEST_F(ChatAdmissionTest, MoreMessagesThanTheContextHasTokensAreNotLookedAt) {
  EXPECT_THAT(FieldsOf(Say(std::vector<text::ChatMessage>(1001, {"", "x"}))), ElementsAre("chat.messages"));
  EXPECT_THAT(violations_.all()[0].description, AllOf(HasSubstr("1001"), HasSubstr("1000")));
  std::vector<text::ChatMessage> most(1000, {"silent", ""});
  most[0] = {"u", "x"};
  EXPECT_THAT(FieldsOf(Say(most)), IsEmpty());
}

TEST_F(ChatAdmissionTest, WhereTheTemplateUsesUpItsBudgetTheMessagesAreRefused) {
  text_->chat_template = text::ChatTemplate::Parse(
      "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", {}).value();
  EXPECT_THAT(FieldsOf(Say({{"user", "hi"}})), ElementsAre("chat.messages"));
  EXPECT_THAT(violations_.all()[0].description, HasSubstr("steps"));
}

TEST_F(ChatAdmissionTest, TheTemplatesOwnWordsArePassedOnWithoutWhatTheyQuote) {
  EXPECT_THAT(FieldsOf(Say({{"robot", "SECRET"}})), ElementsAre("chat.messages"));
  EXPECT_THAT(violations_.all()[0].description, HasSubstr("no robots here"));
  EXPECT_THAT(FieldsOf(Say({{"parrot", "SECRET"}})), ElementsAre("chat.messages"));
  EXPECT_THAT(violations_.all()[0].description, AllOf(HasSubstr("refuses them: heard: ..."), Not(HasSubstr("SECRET"))));
  EXPECT_THAT(FieldsOf(Say({{"parrot", "e"}})), ElementsAre("chat.messages"));
  EXPECT_THAT(violations_.all()[0].description, HasSubstr("refuses them: heard: ..."));
}

TEST_F(AdmissionTest, AnUnsetSeedIsDrawnAndASetOneIsKept) {
  EXPECT_EQ(Admitted(Good()).spec->sampling.seed, 1u);
  GenerationRequest request = Good();
  request.sampling.seed = 0;
  EXPECT_EQ(Admitted(request).spec->sampling.seed, 0u);
}

TEST_F(AdmissionTest, WithoutAnInjectedSourceSeedsAndIdsDiffer) {
  admission_.emplace(AdmissionOptions{}, model_, text_);
  std::set<uint64_t> seeds;
  std::set<std::string> ids;
  for (int i = 0; i < 50; ++i) {
    const AdmittedRequest admitted = Admitted(Good());
    seeds.insert(admitted.spec->sampling.seed);
    ids.insert(admitted.request_id);
  }
  EXPECT_EQ(seeds.size(), 50u);
  EXPECT_EQ(ids.size(), 50u);
}

TEST_F(AdmissionTest, EndTokensAreEosUnlessIgnoredAndTheStopTokens) {
  GenerationRequest request = Good();
  request.stop_token_ids = {9, 3, 9};
  EXPECT_THAT(Admitted(request).spec->end_token_ids, ElementsAre(3, 9, support::kEosToken));
  request.ignore_eos = true;
  const AdmittedRequest ignoring = Admitted(request);
  EXPECT_THAT(ignoring.spec->end_token_ids, ElementsAre(3, 9));
  EXPECT_THAT(ignoring.eos_token_ids, IsEmpty());
}

TEST_F(AdmissionTest, EveryIdMayEndTheTextIfNoneMustComeBefore) {
  GenerationRequest request = Good();
  request.stop_token_ids = AllIds();
  EXPECT_EQ(Admitted(request).spec->end_token_ids.size(), 258u);
  request.stop_token_ids.pop_back();
  request.min_new_tokens = 1;
  EXPECT_THAT(FieldsOf(request), IsEmpty());
}

TEST_F(AdmissionTest, AttentionIsAskedForBySwitchAndItsLayersComeOnceEach) {
  GenerationRequest request = Good();
  request.return_attention_weights = true;
  EXPECT_TRUE(Admitted(request).spec->attention->layers.empty());
  EXPECT_EQ(Admitted(request).spec->attention->top_k, 32u);
  request.attention = {{{2, 0, 2}, 5, 3}};
  const AdmittedRequest admitted = Admitted(request);
  EXPECT_THAT(admitted.spec->attention->layers, ElementsAre(0, 2));
  EXPECT_EQ(admitted.spec->attention->top_k, 5u);
  EXPECT_EQ(admitted.spec->attention->every_n_tokens, 3u);
}

TEST_F(AdmissionTest, NoMoreCandidatesAreAskedForThanThereAreTokens) {
  model_.vocabulary_size = 12;
  Reset();
  GenerationRequest request = Good();
  request.input = TokenInput{1, 2};
  request.return_logprobs = true;
  request.top_logprobs = 20;
  EXPECT_EQ(Admitted(request).spec->top_logprobs, 12u);
}

TEST_F(AdmissionTest, AnyTextThatCanFitIsReadHoweverLongItsTokens) {
  // 999 tokens of the longest kind.
  EXPECT_GE(PromptReader(text_, 1000).max_text_bytes(), 999 * support::kLongPiece.size());
}

TEST_F(AdmissionTest, TokensBeyondTheTokenizerButInTheVocabularyAreAllowed) {
  model_.vocabulary_size = 300;  // padded matrices
  Reset();
  GenerationRequest request = Good();
  request.input = TokenInput{299};
  EXPECT_THAT(FieldsOf(request), IsEmpty());
}

}  // namespace
}  // namespace ebbinghaus::scheduler
