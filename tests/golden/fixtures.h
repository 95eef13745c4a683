// What the golden tests share: fixture files and a model with its page pool.
#pragma once

#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "server/cache/page_pool.h"
#include "server/model/checkpoint.h"
#include "server/model/dequantize.h"
#include "server/model/mapped_file.h"
#include "server/model/packed_decoder.h"
#include "server/model/reference_decoder.h"
#include "server/model/safetensors.h"
#include "tests/support/kernel_tables.h"

namespace ebbinghaus::golden {

// Tests run in the source tree's root.
inline nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  return nlohmann::json::parse(file);
}

// The tensors of a safetensors fixture, as fp32 rows.
class Tensors {
 public:
  explicit Tensors(const std::string& path)
      : file_(model::MappedFile::Open(path).value()), views_(model::ReadSafetensors(file_->bytes()).value()) {}

  std::vector<float> Row(const std::string& name, int64_t row) const {
    const model::TensorView& view = views_.at(name);
    std::vector<float> values(view.columns());
    model::DequantizeRows(view, row, 1, values.data());
    return values;
  }
  int64_t Rows(const std::string& name) const { return views_.at(name).rows(); }

 private:
  std::shared_ptr<const model::MappedFile> file_;
  std::map<std::string, model::TensorView> views_;
};

// Which of the two decoders, in fp32.
enum class Engine { kReference, kPacked };

inline std::unique_ptr<model::Decoder> LoadDecoder(const model::Checkpoint& checkpoint, Engine engine) {
  if (engine == Engine::kReference) return model::ReferenceDecoder::Load(checkpoint, {.page_tokens = 16}).value();
  return model::PackedDecoder::Load(checkpoint, {.weights = model::WeightChoice::kF32,
                                                 .kv = kernels::KvForm::kF32,
                                                 .kernels = &kernels::FastestKernels(),
                                                 .threads = 2,
                                                 .page_tokens = 16})
      .value();
}

// A checkpoint's decoder in fp32 and a pool large enough for what tests do.
struct LoadedModel {
  LoadedModel(const std::string& path, Engine engine)
      : checkpoint(model::OpenCheckpoint(path).value()),
        decoder(LoadDecoder(*checkpoint, engine)),
        pool(decoder->page_shape(), 1 << 28) {}

  std::unique_ptr<model::Checkpoint> checkpoint;
  std::unique_ptr<model::Decoder> decoder;
  cache::PagePool pool;
};

// The logits of the last `rows` rows of one pass over ids[first, first + count): [rows, V].
inline std::vector<float> Forward(model::Decoder& decoder, absl::Span<const base::TokenId> ids, size_t first, size_t count,
                                  cache::KvCache& cache, int64_t rows) {
  model::Segment segment{.tokens = ids.subspan(first, count),
                         .first = static_cast<base::Position>(first),
                         .cache = &cache,
                         .logit_rows = rows};
  decoder.Forward(absl::MakeSpan(&segment, 1));
  if (!segment.status.ok()) throw std::runtime_error(segment.status.ToString());
  return segment.logits;
}

}  // namespace ebbinghaus::golden
