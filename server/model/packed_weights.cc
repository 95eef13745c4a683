#include "server/model/packed_weights.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/dequantize.h"

namespace ebbinghaus::model {
namespace {

using kernels::PackedMatrix;
using kernels::WeightForm;

// Rows of several stored tensors that become one packed matrix.
struct Source {
  std::vector<TensorView> tensors;
  WeightForm form = WeightForm::kF32;
  PackedMatrix* target = nullptr;
};

bool KeepsCodes(TensorType stored, WeightForm form) {
  return (stored == TensorType::kQ8_0 && form == WeightForm::kInt8Group) ||
         (stored == TensorType::kQ4_0 && form == WeightForm::kInt4) ||
         (stored == TensorType::kQ4_1 && form == WeightForm::kInt4Min);
}

uint16_t ReadHalfBits(const std::byte* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

// The blocks of a Q8_0, Q4_0 or Q4_1 row, code by code. Source: the block layouts of the GGML project.
void CopyCodes(const TensorView& tensor, int64_t row, WeightForm form, int64_t lane, std::byte* block) {
  const TensorLayout& layout = LayoutOf(tensor.type);
  const std::byte* at = tensor.data.data() + StoredRow(tensor, row) * tensor.row_bytes();
  uint8_t codes[kernels::kGroup];
  for (int64_t group = 0; group < tensor.columns() / kernels::kGroup; ++group, at += layout.block_bytes) {
    const uint16_t scale = ReadHalfBits(at);
    uint16_t minimum = 0;
    const std::byte* data = at + 2;
    if (tensor.type == TensorType::kQ4_1) {
      minimum = ReadHalfBits(data);
      data += 2;
    }
    for (int64_t i = 0; i < kernels::kGroup; ++i) {
      if (tensor.type == TensorType::kQ8_0) {
        codes[i] = static_cast<uint8_t>(static_cast<int8_t>(data[i]) + 128);
      } else {
        codes[i] = static_cast<uint8_t>(i < 16 ? data[i] & std::byte{15} : data[i - 16] >> 4);
      }
    }
    kernels::PackGroup(form, codes, scale, minimum, group, lane, block);
  }
  // The last pair of groups may be half empty.
  std::fill_n(codes, kernels::kGroup, static_cast<uint8_t>(form == WeightForm::kInt8Group ? 128 : 8));
  for (int64_t c = tensor.columns(); c < kernels::PaddedColumns(form, tensor.columns()); c += kernels::kGroup) {
    kernels::PackGroup(form, codes, 0, 0, c / kernels::kGroup, lane, block);
  }
}

void PackBlocks(const Source& source, int64_t begin, int64_t end, std::vector<float>& row_values) {
  const PackedMatrix& matrix = *source.target;
  const int64_t bytes = kernels::BlockBytes(source.form, matrix.columns);
  row_values.resize(matrix.columns);
  for (int64_t row = begin * kernels::kLanes; row < end * kernels::kLanes; ++row) {
    auto* block = const_cast<std::byte*>(matrix.blocks) + row / kernels::kLanes * bytes;
    const int64_t lane = row % kernels::kLanes;
    int64_t within = row;
    auto tensor = source.tensors.begin();
    while (tensor != source.tensors.end() && within >= tensor->rows()) within -= (tensor++)->rows();
    if (tensor == source.tensors.end()) {
      std::fill(row_values.begin(), row_values.end(), 0.0f);
      kernels::PackRow(source.form, row_values.data(), matrix.columns, lane, block);
    } else if (KeepsCodes(tensor->type, source.form)) {
      CopyCodes(*tensor, within, source.form, lane, block);
    } else {
      DequantizeRows(*tensor, within, 1, row_values.data());
      kernels::PackRow(source.form, row_values.data(), matrix.columns, lane, block);
    }
  }
}

// Collects what there is to pack; nothing is copied before all sizes are known.
class Packer {
 public:
  Packer(const Checkpoint& checkpoint, WeightChoice choice, PackedWeights& weights)
      : checkpoint_(checkpoint), config_(checkpoint.config()), choice_(choice), weights_(weights) {}

  struct Part {
    std::string name;  // without ".weight"
    int64_t rows;
    bool bias;
  };

  absl::Status Add(const std::vector<Part>& parts, int64_t columns, PackedLinear& linear,
                   MatrixRole role = MatrixRole::kOther) {
    linear.columns = columns;
    linear.parts.reserve(parts.size());  // targets must stay where they are
    std::vector<std::vector<Part>> biased;
    for (const Part& part : parts) {
      EBB_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Find(part.name + ".weight", {part.rows, columns}));
      const WeightForm form = FormFor(choice_, view.type, role);
      if (linear.parts.empty() || linear.parts.back().form != form) {
        linear.parts.push_back({.form = form, .rows = 0, .columns = columns});
        sources_.push_back({.tensors = {}, .form = form, .target = &linear.parts.back()});
        biased.emplace_back();
      }
      linear.parts.back().rows += part.rows;
      sources_.back().tensors.push_back(view);
      biased.back().push_back(part);
      linear.rows += part.rows;
    }
    for (size_t i = 0; i < biased.size(); ++i) EBB_RETURN_IF_ERROR(AddBias(biased[i], linear.parts[i]));
    return absl::OkStatus();
  }

  absl::Status AddTable(const std::string& name, PackedMatrix& matrix) {
    EBB_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Find(name + ".weight", {config_.vocabulary, config_.hidden}));
    matrix = {.form = FormFor(choice_, view.type, MatrixRole::kTable), .rows = config_.vocabulary, .columns = config_.hidden};
    sources_.push_back({.tensors = {view}, .form = matrix.form, .target = &matrix});
    return absl::OkStatus();
  }

  absl::Status AddVector(const std::string& name, int64_t size, std::vector<float>& values) {
    EBB_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Find(name, {size}));
    values.resize(size);
    DequantizeRows(view, 0, 1, values.data());
    return absl::OkStatus();
  }

  // Of all matrices.
  uint64_t bytes() const {
    uint64_t all = 0;
    for (const Source& source : sources_) all += source.target->bytes();
    return all;
  }

  void Pack(kernels::ThreadTeam& team, const std::function<void(uint64_t, uint64_t)>& progress) {
    const uint64_t all = bytes();
    uint64_t done = 0;
    weights_.buffer = kernels::HugeBuffer(all);
    std::vector<std::vector<float>> rows(team.threads());
    for (const Source& source : sources_) {
      source.target->blocks = weights_.buffer.data() + done;
      team.For(source.target->block_count(), 8,
               [&](int64_t begin, int64_t end, int thread) { PackBlocks(source, begin, end, rows[thread]); });
      done += source.target->bytes();
      if (progress) progress(done, all);
    }
  }

 private:
  absl::Status AddBias(const std::vector<Part>& parts, PackedMatrix& matrix) {
    if (std::none_of(parts.begin(), parts.end(), [](const Part& part) { return part.bias; })) return absl::OkStatus();
    auto values = std::make_unique<std::vector<float>>();
    for (const Part& part : parts) {
      std::vector<float> bias(part.rows, 0.0f);
      if (part.bias) EBB_RETURN_IF_ERROR(AddVector(part.name + ".bias", part.rows, bias));
      values->insert(values->end(), bias.begin(), bias.end());
    }
    values->resize(matrix.padded_rows(), 0.0f);
    matrix.bias = values->data();
    weights_.biases.push_back(std::move(values));
    return absl::OkStatus();
  }

  const Checkpoint& checkpoint_;
  const ModelConfig& config_;
  const WeightChoice choice_;
  PackedWeights& weights_;
  std::vector<Source> sources_;
};

absl::Status AddLayer(const ModelConfig& config, uint32_t index, Packer& packer, PackedWeights::Layer& layer) {
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
  const int64_t q = config.query_heads * config.head_size, kv = config.kv_heads * config.head_size;
  const bool bias = config.qkv_bias;
  EBB_RETURN_IF_ERROR(packer.AddVector(prefix + "input_layernorm.weight", config.hidden, layer.input_norm));
  EBB_RETURN_IF_ERROR(packer.AddVector(prefix + "post_attention_layernorm.weight", config.hidden, layer.post_attention_norm));
  if (config.qk_norm) {
    EBB_RETURN_IF_ERROR(packer.AddVector(attention + "q_norm.weight", config.head_size, layer.query_norm));
    EBB_RETURN_IF_ERROR(packer.AddVector(attention + "k_norm.weight", config.head_size, layer.key_norm));
  }
  EBB_RETURN_IF_ERROR(packer.Add({{attention + "q_proj", q, bias}, {attention + "k_proj", kv, bias}, {attention + "v_proj", kv, bias}},
                                 config.hidden, layer.query_key_value));
  EBB_RETURN_IF_ERROR(packer.Add({{attention + "o_proj", config.hidden, config.o_bias}}, q, layer.output));
  EBB_RETURN_IF_ERROR(packer.Add({{mlp + "gate_proj", config.feed_forward, config.mlp_bias},
                                  {mlp + "up_proj", config.feed_forward, config.mlp_bias}},
                                 config.hidden, layer.gate_up));
  return packer.Add({{mlp + "down_proj", config.hidden, config.mlp_bias}}, config.feed_forward, layer.down, MatrixRole::kDown);
}

}  // namespace

WeightForm FormFor(WeightChoice choice, TensorType stored, MatrixRole role) {
  switch (choice) {
    case WeightChoice::kF32: return WeightForm::kF32;
    case WeightChoice::kBf16: return WeightForm::kBf16;
    case WeightChoice::kInt8: return role == MatrixRole::kDown ? WeightForm::kInt8Group : WeightForm::kInt8Row;
    case WeightChoice::kInt4:
      if (role == MatrixRole::kTable) return WeightForm::kInt8Group;
      return stored == TensorType::kQ4_0 ? WeightForm::kInt4 : WeightForm::kInt4Min;
    case WeightChoice::kAuto: break;
  }
  switch (stored) {
    case TensorType::kF32:
    case TensorType::kF16:
    case TensorType::kBf16: return WeightForm::kBf16;
    case TensorType::kQ4_0: return WeightForm::kInt4;
    case TensorType::kQ4_1:
    case TensorType::kQ4K: return WeightForm::kInt4Min;
    default: return WeightForm::kInt8Group;
  }
}

uint64_t PackedWeights::bytes() const {
  uint64_t floats = norm.size();
  for (const Layer& layer : layers) {
    floats += layer.input_norm.size() + layer.post_attention_norm.size() + layer.query_norm.size() + layer.key_norm.size();
  }
  for (const auto& bias : biases) floats += bias->size();
  return buffer.size() + floats * sizeof(float);
}

std::string PackedWeights::form_name() const {
  std::map<WeightForm, int64_t> bytes;
  for (const Layer& layer : layers) {
    for (const PackedLinear* linear : {&layer.query_key_value, &layer.output, &layer.gate_up, &layer.down}) {
      for (const PackedMatrix& part : linear->parts) bytes[part.form] += part.bytes();
    }
  }
  const auto largest = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return std::string(kernels::Name(largest->first));
}

absl::StatusOr<PackedWeights> PackWeights(const Checkpoint& checkpoint, WeightChoice choice, kernels::ThreadTeam& team,
                                          const PackingCalls& calls) {
  const ModelConfig& config = checkpoint.config();
  PackedWeights weights;
  weights.layers.resize(config.layers);
  Packer packer(checkpoint, choice, weights);
  EBB_RETURN_IF_ERROR(packer.AddTable("model.embed_tokens", weights.embedding));
  for (uint32_t l = 0; l < config.layers; ++l) EBB_RETURN_IF_ERROR(AddLayer(config, l, packer, weights.layers[l]));
  EBB_RETURN_IF_ERROR(packer.AddVector("model.norm.weight", config.hidden, weights.norm));
  if (!config.tied_embeddings) EBB_RETURN_IF_ERROR(packer.AddTable("lm_head", weights.head));
  if (calls.approve) EBB_RETURN_IF_ERROR(calls.approve(packer.bytes() + weights.bytes()));  // the latter: norms and biases
  try {
    packer.Pack(team, calls.progress);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("there is no memory for the packed weights");
  }
  if (config.tied_embeddings) weights.head = weights.embedding;
  return weights;
}

}  // namespace ebbinghaus::model
