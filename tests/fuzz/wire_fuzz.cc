// The walk over a message's bytes that comes before they are parsed: what it passes parses, into no more memory than it said.
// Input: a first byte that chooses the message, then its bytes.
#include <string>

#include "ebbinghaus/v1/inference.pb.h"
#include "server/base/check.h"
#include "server/base/violations.h"
#include "server/rpc/wire_check.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::rpc {
namespace {

constexpr size_t kMaxParsedBytes = 4096;

template <typename Message>
void CheckOne(std::string_view bytes) {
  base::Violations violations;
  CheckWire(bytes, Message::descriptor(), kMaxParsedBytes, violations);
  EBB_CHECK(violations.ToStatus().message().size() <= base::Violations::kMaxBytes);
  Message message;
  const fuzz::PeakMemory memory;
  if (!violations.empty()) return;
  EBB_CHECK(message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
  EBB_CHECK(memory.bytes() <= 3 * kMaxParsedBytes + 4 * bytes.size() + 4096);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  google::protobuf::SetLogHandler(nullptr);
  const std::string_view bytes = fuzz::AsText(data + 1, size - 1);
  switch (data[0] % 4) {
    case 0: CheckOne<v1::GenerateRequest>(bytes); break;
    case 1: CheckOne<v1::ScoreRequest>(bytes); break;
    case 2: CheckOne<v1::TokenizeRequest>(bytes); break;
    default: CheckOne<v1::DetokenizeRequest>(bytes);
  }
  return 0;
}

}  // namespace ebbinghaus::rpc
