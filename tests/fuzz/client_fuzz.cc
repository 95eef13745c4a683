// What the client reads from its command line and prints of what a server sent. Input: the text of --memory; what stands
// after a zero byte is printed.
#include <string>
#include <vector>

#include "client/memory_flag.h"
#include "client/utf8.h"
#include "server/base/check.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::client {
namespace {

void CheckMemoryFlag(std::string_view text) {
  v1::MemoryParameters memory;
  if (!ParseMemory(text, memory).ok()) return;
  const std::string formatted = FormatMemory(memory);
  v1::MemoryParameters again;
  EBB_CHECK(formatted.empty() || ParseMemory(formatted, again).ok());
  EBB_CHECK(FormatMemory(again) == formatted);
  for (const v1::GenerationMode mode : {v1::GENERATION_MODE_BASELINE, v1::GENERATION_MODE_SOFT_DELETE, v1::GENERATION_MODE_SPARSE_ATTENTION}) {
    MemoryForMode(mode, memory);
  }
}

void CheckPrinted(std::string_view text) {
  const std::string printable = Printable(text);
  EBB_CHECK(FindInvalidUtf8(printable) == std::string_view::npos);
  for (std::string_view rest = printable; !rest.empty();) {
    const char32_t c = TakeCodePoint(rest);
    EBB_CHECK(c == '\n' || c == '\t' || (c >= 0x20 && (c < 0x7f || c >= 0xa0)));
  }
  EBB_CHECK(CountCodePoints(printable) <= text.size());
  EBB_CHECK(CodePointSubstring(printable, 0, text.size()) == printable);
  for (const int width : {2, 7, 80}) {
    for (const std::string& line : Wrap(text, width)) {
      EBB_CHECK(DisplayWidth(line) <= width && line.find('\n') == line.npos && FindInvalidUtf8(line) == line.npos);
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [memory, printed] = fuzz::SplitAtZero(fuzz::AsText(data, size));
  CheckMemoryFlag(memory);
  CheckPrinted(printed);
  return 0;
}

}  // namespace ebbinghaus::client
