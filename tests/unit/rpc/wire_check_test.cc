#include "server/rpc/wire_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "ebbinghaus/v1/inference.pb.h"
#include "google/protobuf/text_format.h"

namespace ebbinghaus::rpc {
namespace {

using testing::HasSubstr;

constexpr size_t kBudget = 1 << 20;

std::string Repeat(const std::string& part, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += part;
  return all;
}

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

// A length-delimited field.
std::string Field(int number, const std::string& value) {
  return Varint(static_cast<uint64_t>(number) << 3 | 2) + Varint(value.size()) + value;
}

base::Violations Check(const std::string& bytes, size_t budget = kBudget) {
  base::Violations violations;
  CheckWire(bytes, v1::GenerateRequest::descriptor(), budget, violations);
  return violations;
}

void ExpectRefused(const std::string& bytes, const std::string& field, const std::string& why) {
  const base::Violations violations = Check(bytes);
  ASSERT_EQ(violations.count(), 1u) << field;
  EXPECT_EQ(violations.all()[0].field, field);
  EXPECT_THAT(violations.all()[0].description, HasSubstr(why));
}

TEST(WireCheckTest, AnOrdinaryRequestPassesWithEveryKindOfField) {
  v1::GenerateRequest request;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "chat { messages { role: 'user' content: 'grüß dich' } } generation_mode: 3 max_new_tokens: 7 stop: 'a' stop: 'b' "
      "stop_token_ids: 5 sampling { temperature: 0.5 seed: 18446744073709551615 logit_bias { key: 3 value: -1 } } "
      "memory { preset: 4 pinned { begin: 0 end: 4 } } attention { layers: [1, 2] top_k: 0 } ignore_eos: true",
      &request));
  EXPECT_TRUE(Check(request.SerializeAsString()).empty());
}

TEST(WireCheckTest, AContextOfIdsCostsWhatItIs) {
  v1::GenerateRequest request;
  for (int i = 0; i < 32'768; ++i) request.mutable_token_ids()->add_ids(100'000);
  const std::string bytes = request.SerializeAsString();
  EXPECT_TRUE(Check(bytes, 4 * bytes.size()).empty());
}

TEST(WireCheckTest, MemoryBeforeParsingBoundsMemoryAfterIt) {
  const std::string messages = Field(3, Repeat(Field(1, Field(1, "u")), 4'000));
  v1::GenerateRequest request;
  ASSERT_TRUE(request.ParseFromString(messages));
  EXPECT_FALSE(Check(messages, request.SpaceUsedLong() / 2).empty());
  EXPECT_TRUE(Check(messages, request.SpaceUsedLong() * 2).empty());
}

TEST(WireCheckTest, ManyTinyPartsAreRefusedUnderTheNameOfTheirField) {
  const std::string why = "more parts";
  ExpectRefused(Repeat(Field(8, ""), 100'000), "stop", why);
  ExpectRefused(Field(3, Repeat(Field(1, ""), 100'000)), "chat.messages", why);
  ExpectRefused(Field(17, Repeat(Field(22, ""), 100'000)), "memory.pinned", why);
  ExpectRefused(Field(5, Repeat(Field(9, ""), 100'000)), "sampling.logit_bias", why);
  ExpectRefused(Field(9, std::string(1'000'000, '\1')), "stop_token_ids", why);
  ExpectRefused(Repeat("\x48\x01", 1'000'000), "stop_token_ids", why);  // the same, not packed
  ExpectRefused(Field(13, Field(1, std::string(1'000'000, '\1'))), "attention.layers", why);
  ExpectRefused(Repeat(Field(3, ""), 100'000), "chat", why);       // one field again and again
  ExpectRefused(Repeat(Field(1000, ""), 100'000), "request", why);  // unknown to this server
}

TEST(WireCheckTest, TextThatIsNotUtf8IsNamed) {
  ExpectRefused(Field(1, "a\xff"), "text", "UTF-8");
  ExpectRefused(Field(8, "\xc3"), "stop", "UTF-8");
  ExpectRefused(Field(3, Field(1, Field(2, "\xed\xa0\x80"))), "chat.messages.content", "UTF-8");
}

TEST(WireCheckTest, WhatIsNoMessageIsRefusedAndNeverReadBeyondItsEnd) {
  const std::string why = ".proto";
  ExpectRefused("\x0a\x05" "abc", "text", why);                                // shorter than it says
  ExpectRefused(std::string("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11), "text", why);
  ExpectRefused("\x30", "max_new_tokens", why);                                // no value
  ExpectRefused("\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "max_new_tokens", why);  // 11 bytes of varint
  ExpectRefused(std::string("\0\0", 2), "request", why);                       // field 0
  ExpectRefused("\x0b\x0c", "text", why);                                      // a group
  ExpectRefused("\x80", "request", why);
  ExpectRefused(std::string("\x8a\x80\x80\x80\x80\x00\x01" "a", 8), "request", why);  // a tag of six bytes
  ExpectRefused(std::string("\x0a\x81\x80\x80\x80\x80\x00" "a", 8), "text", why);     // a length of six bytes
  ExpectRefused("\x4a\x02\x05\x80", "stop_token_ids", why);                          // packed, the last without an end
  ExpectRefused("\x4a\x0b\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "stop_token_ids", why);
  const std::string good = Field(3, Field(1, Field(1, "user") + Field(2, "text")));
  for (size_t end = 0; end < good.size(); ++end) Check(good.substr(0, end));
}

TEST(WireCheckTest, AnotherWireTypeThanTheFieldsIsAnUnknownField) {
  EXPECT_TRUE(Check("\x08\x05").empty());  // text as a number
  v1::GenerateRequest request;
  EXPECT_TRUE(request.ParseFromString("\x08\x05"));
  ASSERT_EQ(request.GetReflection()->GetUnknownFields(request).field_count(), 1);
  // Each is kept, so each costs memory.
  ExpectRefused(Repeat("\x08\x05", 100'000), "text", "more parts");
  ExpectRefused(Repeat("\x35" "abcd", 100'000), "max_new_tokens", "more parts");
  ExpectRefused(Repeat(Field(6, ""), 100'000), "max_new_tokens", "more parts");
}

}  // namespace
}  // namespace ebbinghaus::rpc
