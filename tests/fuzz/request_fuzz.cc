// A GenerateRequest through conversion and admission: what is admitted is in range in every field. Input: a first byte, then
// the message's bytes or, with an odd first byte, what its fields are filled from.
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "ebbinghaus/v1/inference.pb.h"
#include "server/base/check.h"
#include "server/rpc/request_conversion.h"
#include "server/scheduler/admission.h"
#include "server/text/unicode.h"
#include "tests/fuzz/memory_input.h"
#include "tests/fuzz/support.h"
#include "tests/support/fake_engine.h"

namespace ebbinghaus::scheduler {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Any fields of any message.
class Filler {
 public:
  explicit Filler(FuzzedDataProvider& in) : in_(in) {}

  void Fill(Message& message, int depth) {
    const auto& type = *message.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      if (in_.ConsumeIntegralInRange(0, 3) > 0) continue;
      const int count = type.field(i)->is_repeated() ? in_.ConsumeIntegralInRange(1, 4) : 1;
      for (int n = 0; n < count; ++n) FillField(message, *type.field(i), depth);
    }
  }

 private:
  void FillField(Message& message, const FieldDescriptor& field, int depth) {
    const auto& r = *message.GetReflection();
    const bool many = field.is_repeated();
    const auto set = [&](auto one, auto add, auto value) { (r.*(many ? add : one))(&message, &field, value); };
    using R = google::protobuf::Reflection;
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_DOUBLE: return set(&R::SetDouble, &R::AddDouble, fuzz::ReadReal(in_));
      case FieldDescriptor::CPPTYPE_FLOAT: return set(&R::SetFloat, &R::AddFloat, static_cast<float>(in_.ConsumeProbability<double>()));
      case FieldDescriptor::CPPTYPE_BOOL: return set(&R::SetBool, &R::AddBool, in_.ConsumeBool());
      case FieldDescriptor::CPPTYPE_UINT32: return set(&R::SetUInt32, &R::AddUInt32, fuzz::ReadCount(in_));
      case FieldDescriptor::CPPTYPE_UINT64: return set(&R::SetUInt64, &R::AddUInt64, in_.ConsumeIntegral<uint64_t>());
      case FieldDescriptor::CPPTYPE_INT32: return set(&R::SetInt32, &R::AddInt32, in_.ConsumeIntegral<int32_t>());
      case FieldDescriptor::CPPTYPE_INT64: return set(&R::SetInt64, &R::AddInt64, in_.ConsumeIntegral<int64_t>());
      case FieldDescriptor::CPPTYPE_ENUM: return set(&R::SetEnumValue, &R::AddEnumValue, in_.ConsumeIntegralInRange(0, 5));
      case FieldDescriptor::CPPTYPE_STRING: return set(&R::SetString, &R::AddString, in_.ConsumeRandomLengthString(40));
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (depth < 8) Fill(many ? *r.AddMessage(&message, &field) : *r.MutableMessage(&message, &field), depth + 1);
    }
  }

  FuzzedDataProvider& in_;
};

const Admission& TheAdmission() {
  static const Admission* const admission = [] {
    auto text = support::ByteTextModel();
    auto chat_template = text::ChatTemplate::Parse(
        "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}{% if not loop.last %}\n{% endif %}{% endfor %}", {});
    EBB_CHECK(chat_template.ok());
    text->chat_template = *chat_template;
    AdmissionOptions options;
    options.random = [] { return uint64_t{7}; };
    return new Admission(options, support::FakeModel(), text);
  }();
  return *admission;
}

void CheckSampling(const base::SamplingParameters& p, uint32_t vocabulary) {
  EBB_CHECK(p.temperature >= 0 && p.temperature <= 2 && p.top_p > 0 && p.top_p <= 1 && p.min_p >= 0 && p.min_p <= 1);
  EBB_CHECK(p.repetition_penalty > 0 && p.repetition_penalty <= 10 && p.top_k <= vocabulary);
  EBB_CHECK(std::abs(p.presence_penalty) <= 2 && std::abs(p.frequency_penalty) <= 2);
  for (const auto& [id, bias] : p.logit_bias) EBB_CHECK(id < vocabulary && std::abs(bias) <= 100);
}

void CheckAdmitted(const AdmittedRequest& admitted) {
  const base::ModelInfo model = support::FakeModel();
  const base::SequenceSpec& spec = *admitted.spec;
  EBB_CHECK(!spec.prompt.empty() && spec.max_new_tokens >= 1 && spec.min_new_tokens <= spec.max_new_tokens);
  EBB_CHECK(spec.prompt.size() + spec.max_new_tokens <= model.context_tokens);
  for (const base::TokenId id : spec.prompt) EBB_CHECK(id < model.vocabulary_size);
  for (const base::TokenId id : spec.end_token_ids) EBB_CHECK(id < model.vocabulary_size);
  CheckSampling(spec.sampling, model.vocabulary_size);
  EBB_CHECK(spec.top_logprobs <= kMaxTopLogprobs && (spec.top_logprobs == 0 || spec.return_logprobs));
  if (spec.attention) {
    EBB_CHECK(spec.attention->every_n_tokens >= 1);
    for (const uint32_t layer : spec.attention->layers) EBB_CHECK(layer < model.layers);
  }
  EBB_CHECK(admitted.stop.size() <= kMaxStopStrings);
  for (const std::string& stop : admitted.stop) {
    EBB_CHECK(!stop.empty() && stop.size() <= kMaxStopBytes && text::IsValidUtf8(stop));
  }
  EBB_CHECK(!admitted.request_id.empty() && admitted.request_id.size() <= kMaxRequestIdBytes);
  // What memory::Resolve promises is memory_parameters' business; that it was asked is seen here.
  if (spec.mode != base::GenerationMode::kBaseline) EBB_CHECK(std::isfinite(spec.memory.initial_strength) && spec.memory.initial_strength > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool quiet = [] {
    google::protobuf::SetLogHandler(nullptr);
    return true;
  }();
  if (size == 0 || !quiet) return 0;
  v1::GenerateRequest message;
  if (data[0] % 2 == 0) {
    if (!message.ParseFromArray(data + 1, static_cast<int>(size - 1))) return 0;
  } else {
    FuzzedDataProvider in(data + 1, size - 1);
    v1::GenerateRequest filled;
    Filler(in).Fill(filled, 0);
    // Over the wire, where text must be UTF-8.
    if (!message.ParseFromString(filled.SerializeAsString())) return 0;
  }
  base::Violations violations;
  const fuzz::PeakMemory memory;
  const auto admitted = TheAdmission().Admit(rpc::FromProto(message, violations), violations);
  EBB_CHECK(memory.bytes() <= 64 * size + 4 * message.SpaceUsedLong() + (64 << 10));
  EBB_CHECK(admitted.has_value() == violations.empty());
  EBB_CHECK(violations.ToStatus().message().size() <= base::Violations::kMaxBytes);
  if (admitted) CheckAdmitted(*admitted);
  return 0;
}

}  // namespace ebbinghaus::scheduler
