#include "server/rpc/status_conversion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "google/protobuf/any.pb.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "server/base/retry.h"

namespace ebbinghaus::rpc {
namespace {

using google::protobuf::internal::WireFormatLite;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// Every length-delimited field of a message, by number, read with protobuf's own reader.
std::multimap<int, std::string> Fields(const std::string& bytes) {
  std::multimap<int, std::string> fields;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  for (uint32_t tag; (tag = in.ReadTag()) != 0;) {
    if (WireFormatLite::GetTagWireType(tag) == WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      uint32_t size = 0;
      std::string value;
      EXPECT_TRUE(in.ReadVarint32(&size) && in.ReadString(&value, static_cast<int>(size)));
      fields.emplace(WireFormatLite::GetTagFieldNumber(tag), value);
    } else {
      uint64_t value = 0;
      EXPECT_TRUE(in.ReadVarint64(&value));
      fields.emplace(WireFormatLite::GetTagFieldNumber(tag), std::to_string(value));
    }
  }
  EXPECT_TRUE(in.ConsumedEntireMessage());
  return fields;
}

google::protobuf::Any OnlyDetail(const grpc::Status& status) {
  auto fields = Fields(status.error_details());
  EXPECT_EQ(fields.count(3), 1u);
  google::protobuf::Any any;
  EXPECT_TRUE(any.ParseFromString(fields.find(3)->second));
  return any;
}

TEST(StatusConversionTest, CodeAndMessageStay) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  grpc::Status status = ToGrpcStatus(absl::AlreadyExistsError("request_id"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(status.error_message(), "request_id");
  EXPECT_THAT(status.error_details(), IsEmpty());
  EXPECT_EQ(ToGrpcStatus(absl::UnavailableError("")).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(StatusConversionTest, ViolationsTravelAsBadRequest) {
  base::Violations violations;
  violations.Add("sampling.temperature", "must be in [0, 2]");
  violations.Add("input", "must be set");
  grpc::Status status = ToGrpcStatus(violations.ToStatus(), violations);
  auto fields = Fields(status.error_details());
  EXPECT_EQ(fields.find(1)->second, "3");
  EXPECT_EQ(fields.find(2)->second, status.error_message());  // readers compare the two
  google::protobuf::Any any = OnlyDetail(status);
  EXPECT_EQ(any.type_url(), "type.googleapis.com/google.rpc.BadRequest");
  auto listed = Fields(any.value());
  ASSERT_EQ(listed.count(1), 2u);
  auto first = Fields(listed.find(1)->second);
  EXPECT_EQ(first.find(1)->second, "sampling.temperature");
  EXPECT_EQ(first.find(2)->second, "must be in [0, 2]");
}

TEST(StatusConversionTest, ResourceExhaustedSaysWhenToTryAgain) {
  const absl::Status full = absl::ResourceExhaustedError("queue is full");
  for (const auto& [status, milliseconds] : {std::pair{full, 1000}, {base::RetryAfter(full, std::chrono::milliseconds(2345)), 2345}}) {
    const google::protobuf::Any any = OnlyDetail(ToGrpcStatus(status));
    EXPECT_EQ(any.type_url(), "type.googleapis.com/google.rpc.RetryInfo");
    google::protobuf::Duration delay;
    ASSERT_TRUE(delay.ParseFromString(Fields(any.value()).find(1)->second));
    EXPECT_EQ(delay.seconds() * 1000 + delay.nanos() / 1'000'000, milliseconds);
  }
}

TEST(StatusConversionTest, WhatNeverFitsGetsNoHintToTryAgain) {
  const grpc::Status status = ToGrpcStatus(base::NeverFits(absl::ResourceExhaustedError("K/V memory")));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_details(), "");
}

TEST(StatusConversionTest, MessageAndDetailsStayBelowTheMetadataLimitOfClients) {
  for (size_t length : {10u, 100u, 200u, 300u, 1000u, 5000u}) {
    base::Violations violations;
    for (int i = 0; i < 30; ++i) violations.Add("field" + std::to_string(i), std::string(length, 'x'));
    grpc::Status status = ToGrpcStatus(violations.ToStatus(), violations);
    EXPECT_LE(status.error_message().size() + status.error_details().size() * 4 / 3, 7500u) << length;
    EXPECT_THAT(status.error_message(), HasSubstr("more violations")) << length;
  }
}

TEST(StatusConversionTest, AMessageThatGrowsWhenEncodedIsCutBetweenCharacters) {
  std::string message;
  for (int i = 0; i < 3000; ++i) message += "é";  // 6 bytes encoded
  grpc::Status status = ToGrpcStatus(absl::InternalError(message));
  EXPECT_EQ(status.error_message().size() % 2, 0u);
  EXPECT_LE(status.error_message().size() * 3, 7 * 1024u);
  EXPECT_GT(status.error_message().size(), 2000u);
}

}  // namespace
}  // namespace ebbinghaus::rpc
