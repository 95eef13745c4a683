// A chat template, and after a zero byte what a user wrote.
#include <string>
#include <vector>

#include "server/base/check.h"
#include "server/text/chat_template.h"
#include "server/text/unicode.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::text {
namespace {

// Stands in every message and, unless the template writes it itself, nowhere else: wherever it turns up is a user's text.
constexpr std::string_view kMark = "\xe2\x98\x82";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [source, content] = fuzz::SplitAtZero(fuzz::AsText(data, size));
  const auto parsed = ChatTemplate::Parse(source, {.bos_token = "<s>", .eos_token = "</s>"});
  if (!parsed.ok()) return 0;
  const std::string user = std::string(kMark) + ReplaceInvalidUtf8(content);
  const std::vector<ChatMessage> messages = {{"system", "Be " + std::string(kMark)}, {"user", user}, {"assistant", "A " + user}, {"user", "3"}};
  const auto segments = parsed->RenderSegments({.messages = messages}, /*add_generation_prompt=*/true, /*now=*/1'700'000'000);
  if (!segments.ok()) {
    EBB_CHECK(segments.status().message().size() < 4096);
    return 0;
  }
  if (source.find('\\') != source.npos || source.find(kMark) != source.npos) return 0;
  for (const RenderedSegment& segment : *segments) {
    EBB_CHECK(segment.from_message || segment.text.find(kMark) == segment.text.npos);
  }
  return 0;
}

}  // namespace ebbinghaus::text
