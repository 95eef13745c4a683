// A GGUF file, opened as the server opens it: its directory, its tensors, the model's text side. An input that does not begin
// with G describes a file instead, of keys and tensors that models have, so that the length of a name is never wrong.
#include <fuzzer/FuzzedDataProvider.h>

#include <iterator>
#include <vector>

#include "server/base/check.h"
#include "server/model/checkpoint.h"
#include "server/model/dequantize.h"
#include "server/model/text_loader.h"
#include "tests/fuzz/support.h"
#include "tests/fuzz/tokenizer_checks.h"

namespace ebbinghaus::model {
namespace {

const char* const kKeys[] = {"general.architecture", "general.alignment", "split.count", "llama.block_count",
                             "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
                             "llama.attention.head_count", "llama.attention.head_count_kv",
                             "llama.attention.layer_norm_rms_epsilon", "llama.attention.key_length",
                             "llama.attention.value_length", "llama.attention.sliding_window", "llama.rope.freq_base",
                             "llama.rope.dimension_count", "llama.rope.scaling.type", "llama.rope.scaling.factor",
                             "llama.expert_count", "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
                             "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
                             "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.unknown_token_id",
                             "tokenizer.ggml.eot_token_id", "tokenizer.ggml.add_bos_token",
                             "tokenizer.ggml.add_space_prefix", "tokenizer.chat_template"};
const char* const kTexts[] = {"llama", "qwen2", "mistral", "qwen3", "gpt2", "smollm", "none", "linear", "<s>", "a", "b", "a b"};
const char* const kTensors[] = {"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight",
                                "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "blk.0.attn_q.weight",
                                "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
                                "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight",
                                "blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias"};

class FileWriter {
 public:
  explicit FileWriter(FuzzedDataProvider& in) : in_(in) {}

  std::string Write() {
    const uint64_t values = in_.ConsumeIntegralInRange<uint64_t>(0, 40);
    std::string metadata, tensors;
    for (uint64_t i = 0; i < values; ++i) WriteValue(metadata);
    const uint64_t tensor_count = in_.ConsumeIntegralInRange<uint64_t>(0, 20);
    for (uint64_t i = 0; i < tensor_count; ++i) WriteTensor(tensors);
    std::string file = "GGUF";
    Append<uint32_t>(file, 3);
    Append(file, tensor_count);
    Append(file, values);
    file += metadata + tensors;
    file.resize((file.size() + 31) / 32 * 32);
    return file.append(data_bytes_, 'x');
  }

 private:
  template <typename T>
  static void Append(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void AppendString(std::string& out, std::string_view text) {
    Append<uint64_t>(out, text.size());
    out += text;
  }

  std::string Text() {
    return in_.ConsumeBool() ? std::string(kTexts[in_.ConsumeIntegralInRange<size_t>(0, std::size(kTexts) - 1)])
                             : in_.ConsumeRandomLengthString(24);
  }
  uint64_t Number() {
    return in_.ConsumeBool() ? in_.ConsumeIntegralInRange<uint64_t>(0, 16) : in_.ConsumeIntegral<uint64_t>();
  }

  void WriteScalar(std::string& out, uint32_t type) {
    switch (type) {
      case 0: case 1: return Append(out, static_cast<uint8_t>(Number()));
      case 2: case 3: return Append(out, static_cast<uint16_t>(Number()));
      case 4: case 5: return Append(out, static_cast<uint32_t>(Number()));
      case 6: return Append(out, in_.ConsumeBool() ? 1e-5f : in_.ConsumeFloatingPoint<float>());
      case 7: return Append(out, static_cast<uint8_t>(in_.ConsumeBool()));
      case 8: return AppendString(out, Text());
      case 10: case 11: return Append(out, Number());
      case 12: return Append(out, in_.ConsumeBool() ? 1e-5 : in_.ConsumeFloatingPoint<double>());
      default: return;
    }
  }

  void WriteValue(std::string& out) {
    AppendString(out, kKeys[in_.ConsumeIntegralInRange<size_t>(0, std::size(kKeys) - 1)]);
    const uint32_t type = in_.ConsumeIntegralInRange<uint32_t>(0, 13);
    Append(out, type);
    if (type != 9) return WriteScalar(out, type);
    const uint32_t element = in_.ConsumeIntegralInRange<uint32_t>(0, 13);
    const uint64_t count = in_.ConsumeIntegralInRange<uint64_t>(0, 12);
    Append(out, element);
    Append(out, count);
    for (uint64_t i = 0; i < count; ++i) WriteScalar(out, element);
  }

  void WriteTensor(std::string& out) {
    AppendString(out, kTensors[in_.ConsumeIntegralInRange<size_t>(0, std::size(kTensors) - 1)]);
    const uint32_t dimensions = in_.ConsumeIntegralInRange<uint32_t>(0, 5);
    Append(out, dimensions);
    for (uint32_t i = 0; i < dimensions; ++i) Append(out, Number());
    Append(out, in_.ConsumeBool() ? 0 : in_.ConsumeIntegralInRange<uint32_t>(0, 40));
    Append<uint64_t>(out, in_.ConsumeBool() ? data_bytes_ : Number());
    data_bytes_ = (data_bytes_ + in_.ConsumeIntegralInRange<uint64_t>(0, 2048) + 31) / 32 * 32;
  }

  FuzzedDataProvider& in_;
  uint64_t data_bytes_ = 0;
};

void CheckCheckpoint(const Checkpoint& checkpoint) {
  for (const TensorRequirement& needed : RequiredTensors(checkpoint.config())) {
    const absl::StatusOr<TensorView> view = checkpoint.Find(needed.name, needed.shape);
    EBB_CHECK(view.ok());  // it has been looked for at the opening
    std::vector<float> row(static_cast<size_t>(view->columns()));
    for (int64_t r = 0; r < view->rows(); ++r) DequantizeRows(*view, r, 1, row.data());
  }
  for (const base::TokenId id : checkpoint.config().eos_token_ids) EBB_CHECK(id < checkpoint.config().vocabulary);
  const absl::StatusOr<text::TextModel> text = LoadTextModel(checkpoint);
  if (!text.ok()) return;
  EBB_CHECK(text->tokenizer->size() <= checkpoint.config().vocabulary);
  fuzz::CheckTokenizer(*text->tokenizer, "A first text, <s> of 3 words.\n");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string file(fuzz::AsText(data, size));
  if (size > 0 && data[0] != 'G') {
    FuzzedDataProvider in(data, size);
    file = FileWriter(in).Write();
  }
  const fuzz::MemoryFile on_disk(file);
  const fuzz::PeakMemory memory;
  const auto checkpoint = OpenGgufFile(on_disk.path());
  EBB_CHECK(memory.bytes() <= 64 * file.size() + (1 << 20));
  if (!checkpoint.ok()) {
    EBB_CHECK(checkpoint.status().message().size() < 8192);
    return 0;
  }
  CheckCheckpoint(**checkpoint);
  return 0;
}

}  // namespace ebbinghaus::model
