#include "server/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::text {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::time_t kNow = 1'700'000'000;  // 14 November 2023

absl::StatusOr<std::string> Render(const std::string& source, const std::vector<ChatMessage>& messages = {},
                                   bool add_generation_prompt = true) {
  auto parsed = ChatTemplate::Parse(source, {"<s>", "</s>"});
  if (!parsed.ok()) return parsed.status();
  return parsed->Render(messages, add_generation_prompt, kNow);
}

std::string Text(const std::string& source, const std::vector<ChatMessage>& messages = {}, bool add_generation_prompt = true) {
  auto text = Render(source, messages, add_generation_prompt);
  EXPECT_TRUE(text.ok()) << text.status() << "\n" << source;
  return text.ok() ? *text : "";
}

// A list or mapping of that depth, made in a loop.
std::string Nest(const std::string& around, int times) {
  return absl::StrCat("{% set ns = namespace(x=1) %}{% for i in range(", times, ") %}{% set ns.x = ", around,
                      " %}{% endfor %}");
}

// The same, doubled: a value that is small in memory and 2^times large in print.
std::string Doubled(const std::string& start, const std::string& twice, int times) {
  return absl::StrCat("{% set ns = namespace(x=", start, ", y=", start, ") %}{% for i in range(", times,
                      ") %}{% set ns.x = ", twice, " %}{% endfor %}");
}

// ---- renderings ----

constexpr char kChatMl[] =
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content | trim + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

TEST(ChatTemplate, RendersAConversationAndAddsTheSystemMessageThatIsMissing) {
  EXPECT_EQ(Text(kChatMl, {{"user", " Hello. "}}),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n");
}

TEST(ChatTemplate, RendersSeveralTurnsBehindTheirOwnSystemMessage) {
  EXPECT_EQ(Text(kChatMl, {{"system", "Rhyme."}, {"user", "One?"}, {"assistant", "Sun."}, {"user", "Two?"}}, false),
            "<|im_start|>system\nRhyme.<|im_end|>\n<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\nSun.<|im_end|>\n"
            "<|im_start|>user\nTwo?<|im_end|>\n");
}

TEST(ChatTemplate, RendersTheSystemMessageInsideTheFirstTurn) {
  const std::string source =
      "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content ~ '\n\n' %}"
      "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
      "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
      "{% endif %}{% if m.role == 'user' %}[INST] {{ (system if loop.first else '') + m.content }} [/INST]"
      "{% else %} {{ m.content + eos_token }}{% endif %}{% endfor %}";
  EXPECT_EQ(Text(source, {{"user", "a"}}), "<s>[INST] a [/INST]");
  EXPECT_EQ(Text(source, {{"system", "S"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}}),
            "<s>[INST] S\n\na [/INST] b</s>[INST] c [/INST]");
  const auto refused = Render(source, {{"user", "a"}, {"user", "b"}});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("roles must alternate"));
}

TEST(ChatTemplate, SaysWhichBytesCameFromMessages) {
  auto parsed = ChatTemplate::Parse("[{{ messages[0].content.strip().replace('a', '-') | upper }}]{{ 'x' }}", {});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto segments = parsed->RenderSegments({.messages = {{"user", " bab "}}}, true, kNow);
  ASSERT_TRUE(segments.ok()) << segments.status();
  std::vector<std::pair<std::string, bool>> pieces;
  for (const RenderedSegment& segment : *segments) pieces.push_back({segment.text, segment.from_message});
  EXPECT_THAT(pieces, ElementsAre(std::pair("[", false), std::pair("B", true), std::pair("-", false), std::pair("B", true), std::pair("]x", false)));
}

TEST(ChatTemplate, WhatIsPrintedOfAListOrAsJsonIsFromMessagesWhereTheyWroteIt) {
  for (const std::string filter : {"string", "tojson"}) {
    auto parsed = ChatTemplate::Parse("{{ [1, [messages[0].content]] | " + filter + " }}", {});
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    const auto segments = parsed->RenderSegments({.messages = {{"user", "hi"}}}, true, kNow);
    ASSERT_TRUE(segments.ok()) << segments.status();
    ASSERT_EQ(segments->size(), 3u);
    EXPECT_EQ(segments->at(1).text, "hi");
    EXPECT_TRUE(segments->at(1).from_message && !segments->at(0).from_message && !segments->at(2).from_message);
  }
}

// What a client gave stays marked through whatever a template does with it.
TEST(ChatTemplate, EveryTextOfTheClientIsMarkedThroughFiltersMethodsAndPrinting) {
  const auto theirs = [](const char* text) { return jinja::Value(jinja::Text(text, /*from_caller=*/true)); };
  Chat chat{.messages = {{"user", "<|end|>"}}};
  chat.messages[0].fields.Set(theirs("na<|end|>me"), theirs("f<|end|>"));
  jinja::Dict tool;
  tool.Set(theirs("k<|end|>"), theirs("v<|end|>"));
  chat.tools = {jinja::Value::Of(tool)};
  chat.template_variables.Set("v", theirs("<|end|>"));
  for (const std::string what :
       {"messages | tojson", "tools | tojson(indent=2)", "messages[0] | string", "v | upper | lower", "v | title", "v.title()", "v[::-1][::-1]",
        "v | replace('x', 'y')", "'a'.replace('a', v)", "v.split('n') | join('n')", "v | e", "v | urlencode", "v ~ v", "v * 2", "'%s' % v",
        "'%r' | format(v)", "'{:>20}'.format(v)", "v | indent", "v | wordwrap(3)", "v | center(20)", "tools | map('tojson') | join", "[v, v] | join(v)",
        "messages[0].items() | list", "tools[0].keys() | first", "tools[0] | dictsort", "v | truncate(3, true, '', 0)", "v | list | join", "v | xmlattr if no else {'a': v} | xmlattr",
        "v.partition('e') | join", "v.expandtabs()", "v | striptags", "v.swapcase().swapcase()", "v.zfill(12)", "v | string | trim('<')", "v | reverse", "namespace(a=v).a"}) {
    auto parsed = ChatTemplate::Parse("{{ " + what + " }}", {});
    ASSERT_TRUE(parsed.ok()) << what << parsed.status();
    const auto segments = parsed->RenderSegments(chat, true, kNow);
    ASSERT_TRUE(segments.ok()) << what << segments.status();
    for (const RenderedSegment& segment : *segments) {
      EXPECT_TRUE(segment.from_message || segment.text.find('|') == segment.text.npos) << what << ": " << segment.text;
    }
  }
}

TEST(ChatTemplate, ToolsVariablesAndFieldsReachTheTemplate) {
  const std::string source =
      "{% for t in tools or [] %}{{ t.name }};{% endfor %}{{ enable_thinking }}{{ pad_token }}{{ documents is none }}"
      "{% for m in messages %}{{ m.role }}{{ m.name }}{{ m.content is none }}{% endfor %}";
  auto parsed = ChatTemplate::Parse(source, {.bos_token = "<s>", .eos_token = "</s>", .others = [] {
                                              jinja::Dict tokens;
                                              tokens.Set("pad_token", jinja::Value::Of(std::string("<pad>")));
                                              return tokens;
                                            }()}, "tools: {{ tools | length }}");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  Chat chat{.messages = {{"user", ""}}};
  chat.messages[0].fields.Set("name", jinja::Value::Of(std::string("Ann")));
  chat.messages[0].fields.Set("content", jinja::Value(jinja::None{}));
  chat.template_variables.Set("enable_thinking", jinja::Value(false));
  const auto joined = [&] {
    const auto segments = parsed->RenderSegments(chat, true, kNow);
    EXPECT_TRUE(segments.ok()) << segments.status();
    std::string text;
    for (const RenderedSegment& segment : segments.value()) text += segment.text;
    return text;
  };
  EXPECT_EQ(joined(), "False<pad>TrueuserAnnTrue");
  chat.tools = {jinja::Value::Of(jinja::Dict())};
  EXPECT_EQ(joined(), "tools: 1");  // the template for tools
}

TEST(ChatTemplate, TheFinalMessageIsContinuedWhereItsContentEnds) {
  auto parsed = ChatTemplate::Parse(kChatMl, {});
  ASSERT_TRUE(parsed.ok());
  const auto cut = [&](const std::string& content) -> std::string {
    const Chat chat{.messages = {{"user", "Sun"}, {"assistant", content}}, .continue_final_message = true};
    const auto segments = parsed->RenderSegments(chat, true, kNow);
    if (!segments.ok()) return std::string(segments.status().message());
    std::string text;
    for (const RenderedSegment& segment : *segments) text += segment.text;
    return text.substr(text.find("<|im_start|>assistant"));
  };
  EXPECT_EQ(cut("Sun"), "<|im_start|>assistant\nSun");
  EXPECT_EQ(cut(" The sun "), "<|im_start|>assistant\nThe sun");
  EXPECT_THAT(Render("{{ messages[0].role }}", {{"user", "x"}}).value(), testing::StrEq("user"));
  auto hidden = ChatTemplate::Parse("Sun{{ messages[0].content }}", {});
  const Chat chat{.messages = {{"user", "a"}, {"assistant", "Sun"}}, .continue_final_message = true};
  EXPECT_THAT(std::string(hidden->RenderSegments(chat, true, kNow).status().message()), HasSubstr("continue_final_message"));
}

TEST(ChatTemplate, ARenderingStopsWhenItIsCancelled) {
  auto parsed = ChatTemplate::Parse("{% for i in range(9000) %}{% for j in range(9000) %}{% endfor %}{% endfor %}", {});
  int asked = 0;
  const std::function<bool()> cancelled = [&] { return ++asked > 2; };
  EXPECT_EQ(parsed->RenderSegments(Chat{.messages = {{"user", "x"}}}, true, kNow, &cancelled).status().code(), absl::StatusCode::kCancelled);
}

TEST(ChatTemplate, DatesComeFromTheCaller) { EXPECT_EQ(Text("{{ strftime_now('%d %b %Y') }}"), "14 Nov 2023"); }

// ---- refusals at parse ----

TEST(ChatTemplate, WhatItCannotParseNamesTheLineAndTheTrouble) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"a\n{% nope %}", "line 2: the tag {% nope %} is not known"},
      {"{{ messages | nofilter('role') }}", "the filter 'nofilter' is not known"},
      {"{{ 1 is prime }}", "the test 'prime' is not known"},
      {"{% for x in y %}", "{% endfor %} is missing"},
      {"\n\n{% if x %}{% endfor %}", "line 3"},
      {"{{ 'open }}", "a string is not closed"},
      {"{{ 1 + }}", "expected an expression"},
      {"{{ 1 ) }}", "a bracket closes nothing"},
      {"{{ (1 }}", "a bracket closes nothing"},
      {"{{ x", "expected '}}' before the template ends"},
      {"{# x", "a comment is not closed"},
      {"{% break %}", "outside a loop"},
      {"{{ '\xff' }}", "not valid UTF-8"},
      {std::string((1 << 20) + 1, 'x'), "larger than 1048576 bytes"},
  };
  for (const auto& [source, told] : rows) {
    const auto parsed = ChatTemplate::Parse(source, {});
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << source.substr(0, 80);
    EXPECT_THAT(std::string(parsed.status().message()), AllOf(HasSubstr("chat template"), HasSubstr(told)));
  }
}

TEST(ChatTemplate, WhatIsNotSupportedIsMetOnlyWhereItIsReached) {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"{% include 'x' %}", "line 2: the tag {% include %} is not supported"},
      {"{% extends 'x' %}", "the tag {% extends %} is not supported"},
      {"{{ x | nofilter }}", "the filter 'nofilter' is not known"},
      {"{{ 12345678901234567890 }}", "beyond 64 bits"},
      {"{{ lipsum() }}", "'lipsum' is not supported"}};
  for (const auto& [construct, told] : rows) {
    const std::string source = "{% if messages[0].role == 'tool' %}\n" + construct + "{% endif %}ok";
    EXPECT_EQ(Text(source, {{"user", "hi"}}), "ok") << construct;
    const auto refused = Render(source, {{"tool", "hi"}});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument) << construct;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr(told));
  }
}

TEST(ChatTemplate, DeepNestingIsRefusedAtParse) {
  const auto repeat = [](const std::string& text, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += text;
    return all;
  };
  for (const std::string& source :
       {"{{ " + repeat("(", 5000) + "1" + repeat(")", 5000) + " }}", "{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}",
        "{{ " + repeat("not ", 5000) + "1 }}", "{{ x" + repeat(".y", 5000) + " }}", "{{ x" + repeat(" | trim", 5000) + " }}",
        repeat("{% if x %}", 5000) + repeat("{% endif %}", 5000)}) {
    const auto parsed = ChatTemplate::Parse(source, {});
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("nested too deeply"));
  }
}

// ---- limits of a rendering ----

void ExpectExhausted(const std::string& source, const std::string& told) {
  const auto text = Render(source);
  EXPECT_EQ(text.status().code(), absl::StatusCode::kResourceExhausted) << text.status() << "\n" << source;
  EXPECT_THAT(std::string(text.status().message()), AllOf(HasSubstr("chat template, line 1: "), HasSubstr(told))) << source;
}

TEST(ChatTemplateLimits, ValuesNestOnlySoDeep) {
  EXPECT_EQ(Text(Nest("[ns.x]", 3) + "{{ ns.x }}"), "[[[1]]]");
  for (const std::string around : {"[ns.x]", "{'a': ns.x}", "dict(a=ns.x)", "[1, ns.x] + []", "{'a': ns.x}.items()"}) {
    ExpectExhausted(Nest(around, 100'000), "nested too deeply");
  }
}

TEST(ChatTemplateLimits, ANamespaceThatHoldsItselfIsNoTrouble) {
  for (const std::string kept : {"ns", "[ns]", "{'a': ns}", "namespace(y=ns.x)", "namespace(y=ns)", "dict(y=ns)"}) {
    EXPECT_EQ(Text(Nest(kept, 10'000) + "ok"), "ok") << kept;
  }
  ExpectExhausted(Nest("[ns]", 1) + "{{ ns }}", "nested too deeply");
}

TEST(ChatTemplateLimits, MacrosCallThemselvesOnlySoDeep) {
  ExpectExhausted("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply");
  std::string ifs, ends;
  for (int i = 0; i < 70; ++i) ifs += "{% if true %}", ends += "{% endif %}";
  ExpectExhausted("{% macro f() %}" + ifs + "{{ f() }}" + ends + "{% endmacro %}{{ f() }}", "nested too deeply");
}

// These run on one thread, and the thread sanitizer would take minutes to find nothing in them.
#ifndef __SANITIZE_THREAD__

TEST(ChatTemplateLimits, NothingThatMakesATextMakesItWithoutBound) {
  for (const std::string twice :
       {"ns.x.replace('a', 'aaaaaaaaaa')", "ns.x | replace('a', 'aaaaaaaaaa')", "ns.x ~ ns.x", "ns.x + ns.x", "ns.x * 10",
        "10 * ns.x", "[ns.x, ns.x] | join", "ns.x.join([ns.x, ns.x])", "[ns.x, ns.x] | string", "[ns.x, ns.x] | tojson(indent=8)"}) {
    ExpectExhausted(Doubled("'a'", twice, 100), "more than ");
  }
  ExpectExhausted("{{ 'abc' * 999999999999999999 }}", "a text of more than 33554432 bytes");
  ExpectExhausted("{% set x = 'a' * 1000000 %}{{ x.replace('a', x) }}", "more than ");
  ExpectExhausted("{% set x = 'a' * 1000000 %}{{ x.join(x) }}", "more than ");
  EXPECT_EQ(Text("{{ 999999999999 * '' }}{{ 'ab' * -1 }}{{ 'ab' * 2 }}"), "abab");
}

TEST(ChatTemplateLimits, NothingThatMakesAListMakesItWithoutBound) {
  ExpectExhausted(Doubled("[1]", "ns.x + ns.x", 100), "steps");
  EXPECT_EQ(Render("{{ range(999999999999) | length }}").status().code(), absl::StatusCode::kInvalidArgument);
  ExpectExhausted("{{ ('a' * 30000000).split('a') | length }}", "steps");
  ExpectExhausted("{{ ('a ' * 15000000).split() | length }}", "steps");
  ExpectExhausted("{{ ('a' * 30000000) | list | length }}", "steps");
  ExpectExhausted("{% for c in 'a' * 30000000 %}{% endfor %}", "steps");
}

TEST(ChatTemplateLimits, ASmallValueThatPrintsLargeCostsWhatItPrints) {
  const std::string value = Doubled("[]", "[ns.x, ns.x]", 60) + "{% for i in range(60) %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
  for (const std::string use : {"{{ ns.x }}", "{{ ns.x | tojson }}", "{{ ns.x | string | length }}", "{{ ns.x | join }}",
                                "{{ ns.x == ns.y }}", "{{ ns.x in [ns.y] }}",
                                "{{ ns.x is eq(ns.y) }}"}) {
    ExpectExhausted(value + use, "steps");
  }
}

TEST(ChatTemplateLimits, OutputIsBounded) {
  ExpectExhausted("{% for i in range(10) %}{{ 'a' * 10000000 }}{% endfor %}", "more than 33554432 bytes");
  ExpectExhausted("{% set t %}{% for i in range(10) %}{{ 'a' * 10000000 }}{% endfor %}{% endset %}", "more than 33554432 bytes");
}

TEST(ChatTemplateLimits, StepsAreBoundedWhateverTheyDo) {
  ExpectExhausted("{% for i in range(3000) %}{% for j in range(3000) %}{% for k in range(3000) %}{% endfor %}{% endfor %}{% endfor %}",
                  "more than 2000000 steps");
  const std::string large = "{% set s = 'a' * 10000000 %}{% for i in range(100000) %}";
  for (const std::string body : {"{% set t = s | trim('a') %}", "{% set t = s[::-1] %}", "{% if s == s ~ '' %}{% endif %}",
                                 "{% if 'b' in s %}{% endif %}", "{% set t = s.find('b') %}", "{% set t = s | length %}",
                                 "{% set t %}{{ s }}{% endset %}", "{% if s < s %}{% endif %}"}) {
    ExpectExhausted(large + body + "{% endfor %}", "steps");
  }
  const std::string many = "{% set ns = namespace(l=['a' * 10000000]) %}{% for i in range(12) %}{% set ns.l = ns.l + ns.l %}{% endfor %}";
  for (const std::string use : {"ns.l | map('upper') | list", "ns.l | sort", "ns.l | unique | list", "ns.l | map('length') | list"}) {
    ExpectExhausted(many + "{{ " + use + " | length }}", "more than ");
  }
}

TEST(ChatTemplateLimits, SearchingTakesLinearTime) {
  EXPECT_EQ(Text("{% set t = 'a' * 2000000 ~ 'b' %}{% set s = 'a' * 4000000 %}{{ s.find(t) }} {{ t in s }} {{ s.replace(t, '') | length }} "
                 "{{ s.split(t) | length }} {{ s.strip(t) | length }}"),
            "-1 False 4000000 1 0");
}

#endif  // __SANITIZE_THREAD__

TEST(ChatTemplateLimits, NumbersAtTheirEndsDoNotOverflow) {
  EXPECT_EQ(Text("{% set big = 461168601842738790 * 10 %}{{ range(0, big * 2 - 1, big) | list }}"), "[0, 4611686018427387900]");
  EXPECT_EQ(Text("{{ range(-9223372036854775807, 9223372036854775807, 4611686018427387904) | last }}"), "4611686018427387905");
  EXPECT_EQ(Text("{% set big = 922337203685477580 * 10 + 7 %}{{ 'abc'[1::big] }}{{ [1, 2, 3][::-big] }}"), "b[3]");
  EXPECT_EQ(Render("{{ (0 - 922337203685477580 * 10 - 8) | abs }}").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Text("{{ ('nan' | float) | int }}"), "0");
}

TEST(ChatTemplateLimits, ALongConversationStaysFarBelowThem) {
  std::vector<ChatMessage> messages;
  for (int i = 0; i < 4000; ++i) messages.push_back({i % 2 ? "assistant" : "user", std::string(500, 'x')});
  EXPECT_GT(Text(kChatMl, messages).size(), 2'000'000u);
  EXPECT_THAT(Text("{% for m in messages %}{% if messages[loop.index0].role != m.role %}bad{% endif %}{% endfor %}", messages),
              IsEmpty());
}

TEST(ChatTemplate, NoErrorQuotesAMessage) {
  for (const char* source :
       {"{{ raise_exception('heard ' + messages[0].content) }}", "{{ raise_exception(messages[0].role | upper) }}",
        "{{ raise_exception(messages[0].content[1:5] ~ messages) }}", "{{ raise_exception(messages | tojson) }}",
        "{{ messages[0][messages[0].content].x }}", "{{ messages[0][messages[0].role ~ 's']() }}",
        "{% set ns = namespace(a=1) %}{{ ns[messages[0].content] + 1 }}", "{{ messages[0].content - 1 }}",
        "{{ messages[0].content() }}", "{% for a, b in messages[0].content %}{% endfor %}"}) {
    auto parsed = ChatTemplate::Parse(source, {});
    ASSERT_TRUE(parsed.ok()) << source << parsed.status();
    const std::vector<ChatMessage> messages = {{"SECRETROLE", "SECRETWORDS"}};
    const auto text = parsed->Render(messages, true, 0);
    ASSERT_FALSE(text.ok()) << source << *text;
    EXPECT_THAT(std::string(text.status().message()), testing::Not(testing::ContainsRegex("SECRET|ECRE|WORDS|ROLE")));
  }
}

}  // namespace
}  // namespace ebbinghaus::text
