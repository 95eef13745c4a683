// The vocabulary of a GGUF file, then a text that is encoded and decoded.
#include <fuzzer/FuzzedDataProvider.h>

#include <iterator>
#include <string>

#include "server/text/tokenizer.h"
#include "server/text/unicode.h"
#include "tests/fuzz/support.h"
#include "tests/fuzz/tokenizer_checks.h"

namespace ebbinghaus::text {
namespace {

const char* const kModels[] = {"gpt2", "llama", "t5", "bert", "gemma4", ""};
const char* const kSplits[] = {"default", "gpt-2", "llama-bpe", "qwen2", "smollm", "tekken", "deepseek-llm", "falcon", "gpt-4o",
                               "superbpe", "bloom", "chatglm-bpe", ""};

// GPT-2's spelling of a byte: itself where it is printable, else the next free code point from 256 on.
std::string SpelledByte(int byte) {
  static const std::vector<std::string>* const spelled = [] {
    auto* all = new std::vector<std::string>(256);
    char32_t next = 256;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
      AppendUtf8(printable ? static_cast<char32_t>(b) : next++, (*all)[static_cast<size_t>(b)]);
    }
    return all;
  }();
  return (*spelled)[static_cast<size_t>(byte)];
}

std::string NameOfByte(int byte) {
  char name[8];
  std::snprintf(name, sizeof name, "<0x%02X>", byte);
  return name;
}

GgufVocabulary Read(FuzzedDataProvider& in) {
  GgufVocabulary vocabulary;
  vocabulary.model = kModels[in.ConsumeIntegralInRange<size_t>(0, std::size(kModels) - 1)];
  vocabulary.pre = in.ConsumeBool() ? kSplits[in.ConsumeIntegralInRange<size_t>(0, std::size(kSplits) - 1)]
                                    : in.ConsumeRandomLengthString(12);
  const int bytes = in.ConsumeIntegralInRange(0, 3);
  for (int b = 0; b < 256 && bytes > 0; ++b) {
    vocabulary.tokens.push_back(bytes == 1 ? SpelledByte(b) : NameOfByte(b));
    vocabulary.token_types.push_back(bytes == 1 ? 1 : 6);
    vocabulary.scores.push_back(0);
  }
  const size_t more = in.ConsumeIntegralInRange<size_t>(0, 48);
  for (size_t i = 0; i < more; ++i) {
    const auto any = [&] { return vocabulary.tokens[in.ConsumeIntegralInRange<size_t>(0, vocabulary.tokens.size() - 1)]; };
    if (!vocabulary.tokens.empty() && in.ConsumeBool()) {
      const std::string left = any(), right = any();
      if (in.ConsumeBool()) vocabulary.merges.push_back(left + " " + right);
      vocabulary.tokens.push_back(left + right);
    } else {
      vocabulary.tokens.push_back(in.ConsumeRandomLengthString(12));
    }
    vocabulary.token_types.push_back(in.ConsumeIntegralInRange<int32_t>(0, 7));
    vocabulary.scores.push_back(in.ConsumeBool() ? -static_cast<float>(i) : in.ConsumeFloatingPoint<float>());
  }
  for (int i = in.ConsumeIntegralInRange(0, 4); i > 0; --i) vocabulary.merges.push_back(in.ConsumeRandomLengthString(12));
  if (in.ConsumeIntegralInRange(0, 15) == 0) vocabulary.scores.resize(in.ConsumeIntegralInRange<size_t>(0, 300));
  if (in.ConsumeIntegralInRange(0, 15) == 0) vocabulary.token_types.resize(in.ConsumeIntegralInRange<size_t>(0, 300));
  for (auto* id : {&vocabulary.bos_token_id, &vocabulary.eos_token_id, &vocabulary.unknown_token_id}) {
    // The reader of the file has checked them against the tokens.
    if (!vocabulary.tokens.empty() && in.ConsumeBool()) {
      *id = in.ConsumeIntegralInRange<base::TokenId>(0, static_cast<base::TokenId>(vocabulary.tokens.size() - 1));
    }
  }
  for (auto* flag : {&vocabulary.add_bos_token, &vocabulary.add_space_prefix}) {
    if (in.ConsumeBool()) *flag = in.ConsumeBool();
  }
  return vocabulary;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider in(data, size);
  const GgufVocabulary vocabulary = Read(in);
  size_t bytes = size + 64 * vocabulary.tokens.size();
  for (const std::string& token : vocabulary.tokens) bytes += token.size();
  const fuzz::PeakMemory memory;
  const auto tokenizer = Tokenizer::FromGguf(vocabulary);
  EBB_CHECK(memory.bytes() <= 256 * bytes + (1 << 20));
  if (!tokenizer.ok()) {
    EBB_CHECK(tokenizer.status().message().size() < 4096);
    return 0;
  }
  fuzz::CheckTokenizer(**tokenizer, in.ConsumeRemainingBytesAsString());
  return 0;
}

}  // namespace ebbinghaus::text
