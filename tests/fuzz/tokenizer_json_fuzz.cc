// tokenizer.json and, after a zero byte, a text that is encoded and decoded.
#include "server/base/check.h"
#include "server/text/tokenizer.h"
#include "tests/fuzz/support.h"
#include "tests/fuzz/tokenizer_checks.h"

namespace ebbinghaus::text {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [definition, text] = fuzz::SplitAtZero(fuzz::AsText(data, size));
  const fuzz::PeakMemory memory;
  const auto tokenizer = Tokenizer::FromJson(definition);
  EBB_CHECK(memory.bytes() <= 512 * size + (1 << 20));
  if (!tokenizer.ok()) {
    EBB_CHECK(tokenizer.status().message().size() < 4096);
    return 0;
  }
  fuzz::CheckTokenizer(**tokenizer, text);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  return fuzz::MutateJson(data, size, max_size, seed);
}

}  // namespace ebbinghaus::text
