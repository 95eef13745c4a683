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
#include "server/model/decoder.h"
#include "server/model/dequantize.h"
#include "server/model/mapped_file.h"
#include "server/model/safetensors.h"

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

// A checkpoint's decoder in fp32 and a pool large enough for what tests do.
struct LoadedModel {
  explicit LoadedModel(const std::string& path)
      : checkpoint(model::OpenCheckpoint(path).value()),
        decoder(model::Decoder::Load(*checkpoint, {}).value()),
        pool({.kv_heads = decoder->config().kv_heads, .head_size = decoder->config().head_size, .page_tokens = 16}, 1 << 28) {}

  std::unique_ptr<model::Checkpoint> checkpoint;
  std::unique_ptr<model::Decoder> decoder;
  cache::PagePool pool;
};

}  // namespace ebbinghaus::golden
