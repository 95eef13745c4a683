// Structure and tensor names follow the Hugging Face checkpoints of the Llama family; what differs between
// architectures is data in ModelConfig (a bias that is there or not, a norm on q and k).
#include "server/model/reference_decoder.h"

#include <algorithm>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/silu.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"
#include "server/model/dequantize.h"

namespace ebbinghaus::model {
namespace {

// Loads tensors by name, in bounded steps: never more than one tensor's fp32 form beside what is kept.
class WeightLoader {
 public:
  WeightLoader(const Checkpoint& checkpoint, const ReferenceOptions& options)
      : checkpoint_(checkpoint), options_(options) {}

  // [rows, columns] in the weights' type.
  absl::StatusOr<at::Tensor> Matrix(const std::string& name, int64_t rows, int64_t columns) const {
    EBB_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Find(name, {rows, columns}));
    at::Tensor loaded = at::empty({rows, columns}, at::TensorOptions(options_.weights).device(options_.device));
    const int64_t step = std::max<int64_t>(1, (1 << 22) / columns);
    for (int64_t first = 0; first < rows; first += step) {
      const int64_t count = std::min(step, rows - first);
      at::Tensor part = at::empty({count, columns}, at::kFloat);
      DequantizeRows(view, first, count, part.data_ptr<float>());
      loaded.narrow(0, first, count).copy_(part);
    }
    return loaded;
  }

  // [size] in fp32.
  absl::StatusOr<at::Tensor> Vector(const std::string& name, int64_t size) const {
    EBB_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Find(name, {size}));
    at::Tensor loaded = at::empty({size}, at::kFloat);
    DequantizeRows(view, 0, 1, loaded.data_ptr<float>());
    return loaded.to(options_.device);
  }

  absl::Status Load(const std::string& name, int64_t out, int64_t in, bool bias, Linear& linear) const {
    EBB_ASSIGN_OR_RETURN(linear.weight, Matrix(absl::StrCat(name, ".weight"), out, in));
    if (!bias) return absl::OkStatus();
    EBB_ASSIGN_OR_RETURN(const at::Tensor loaded, Vector(absl::StrCat(name, ".bias"), out));
    linear.bias = loaded.to(options_.weights);
    return absl::OkStatus();
  }

  absl::Status Load(const std::string& name, int64_t size, double epsilon, RmsNorm& norm) const {
    EBB_ASSIGN_OR_RETURN(norm.weight, Vector(absl::StrCat(name, ".weight"), size));
    norm.epsilon = epsilon;
    return absl::OkStatus();
  }

 private:
  const Checkpoint& checkpoint_;
  const ReferenceOptions& options_;
};

// What weight_bytes() will be: matrices and biases in the weights' type, norms in fp32.
uint64_t BytesOf(const ModelConfig& config, const ReferenceOptions& options) {
  uint64_t bytes = 0;
  for (const TensorRequirement& tensor : RequiredTensors(config)) {
    uint64_t values = 1;
    for (const int64_t extent : tensor.shape) values *= static_cast<uint64_t>(extent);
    const bool norm = tensor.shape.size() == 1 && !absl::EndsWith(tensor.name, ".bias");
    bytes += values * c10::elementSize(norm ? at::kFloat : options.weights);
  }
  return bytes;
}

}  // namespace

ReferenceDecoder::ReferenceDecoder(ModelConfig config, ReferenceOptions options)
    : config_(std::move(config)), options_(options), layers_(config_.layers) {}

absl::StatusOr<std::unique_ptr<ReferenceDecoder>> ReferenceDecoder::Load(const Checkpoint& checkpoint, const ReferenceOptions& options) {
  const ModelConfig& config = checkpoint.config();
  auto decoder = std::unique_ptr<ReferenceDecoder>(new ReferenceDecoder(config, options));
  if (options.memory_check) EBB_RETURN_IF_ERROR(options.memory_check(BytesOf(config, options), decoder->page_shape()));
  const WeightLoader loader(checkpoint, options);
  decoder->rope_ = Rope(RopeInverseFrequencies(config), options.device);
  EBB_ASSIGN_OR_RETURN(decoder->embedding_, loader.Matrix("model.embed_tokens.weight", config.vocabulary, config.hidden));

  const int64_t q = config.query_heads * config.head_size, kv = config.kv_heads * config.head_size;
  for (uint32_t l = 0; l < config.layers; ++l) {
    Layer& layer = decoder->layers_[l];
    const std::string prefix = absl::StrCat("model.layers.", l, ".");
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    const double epsilon = config.rms_norm_epsilon;
    EBB_RETURN_IF_ERROR(loader.Load(prefix + "input_layernorm", config.hidden, epsilon, layer.input_norm));
    EBB_RETURN_IF_ERROR(
        loader.Load(prefix + "post_attention_layernorm", config.hidden, epsilon, layer.post_attention_norm));
    if (config.qk_norm) {
      EBB_RETURN_IF_ERROR(loader.Load(attention + "q_norm", config.head_size, epsilon, layer.query_norm));
      EBB_RETURN_IF_ERROR(loader.Load(attention + "k_norm", config.head_size, epsilon, layer.key_norm));
    }
    EBB_RETURN_IF_ERROR(loader.Load(attention + "q_proj", q, config.hidden, config.qkv_bias, layer.query));
    EBB_RETURN_IF_ERROR(loader.Load(attention + "k_proj", kv, config.hidden, config.qkv_bias, layer.key));
    EBB_RETURN_IF_ERROR(loader.Load(attention + "v_proj", kv, config.hidden, config.qkv_bias, layer.value));
    EBB_RETURN_IF_ERROR(loader.Load(attention + "o_proj", config.hidden, q, config.o_bias, layer.output));
    EBB_RETURN_IF_ERROR(loader.Load(mlp + "gate_proj", config.feed_forward, config.hidden, config.mlp_bias, layer.gate));
    EBB_RETURN_IF_ERROR(loader.Load(mlp + "up_proj", config.feed_forward, config.hidden, config.mlp_bias, layer.up));
    EBB_RETURN_IF_ERROR(loader.Load(mlp + "down_proj", config.hidden, config.feed_forward, config.mlp_bias, layer.down));
  }
  EBB_RETURN_IF_ERROR(loader.Load("model.norm", config.hidden, config.rms_norm_epsilon, decoder->norm_));
  if (config.tied_embeddings) {
    decoder->head_.weight = decoder->embedding_;
  } else {
    EBB_RETURN_IF_ERROR(loader.Load("lm_head", config.vocabulary, config.hidden, /*bias=*/false, decoder->head_));
  }
  return decoder;
}

uint64_t ReferenceDecoder::weight_bytes() const {
  uint64_t bytes = embedding_.nbytes() + norm_.weight.nbytes();
  if (!config_.tied_embeddings) bytes += head_.weight.nbytes();
  for (const Layer& layer : layers_) {
    for (const RmsNorm* norm : {&layer.input_norm, &layer.post_attention_norm, &layer.query_norm, &layer.key_norm}) {
      if (norm->weight.defined()) bytes += norm->weight.nbytes();
    }
    for (const Linear* linear :
         {&layer.query, &layer.key, &layer.value, &layer.output, &layer.gate, &layer.up, &layer.down}) {
      bytes += linear->weight.nbytes() + (linear->bias.defined() ? linear->bias.nbytes() : 0);
    }
  }
  return bytes;
}

absl::StatusOr<at::Tensor> ReferenceDecoder::Attention(const Layer& layer, uint32_t index, const at::Tensor& x,
                                              const Rope::Angles& angles, cache::LayerCache& cache,
                                              MemoryMediator* memory) const {
  const int64_t rows = x.size(0), size = config_.head_size;
  at::Tensor q = layer.query(x).to(at::kFloat).view({rows, config_.query_heads, size});
  at::Tensor k = layer.key(x).to(at::kFloat).view({rows, config_.kv_heads, size});
  const at::Tensor v = layer.value(x).view({rows, config_.kv_heads, size});
  if (config_.qk_norm) {
    q = layer.query_norm(q);
    k = layer.key_norm(k);
  }
  EBB_RETURN_IF_ERROR(cache.Append(Rope::Rotate(k, angles), v));
  return layer.output(AttendOverSlots(Rope::Rotate(q, angles), cache, index, memory)).to(at::kFloat);
}

cache::PageShape ReferenceDecoder::page_shape() const {
  return {.kv_heads = config_.kv_heads,
          .head_size = config_.head_size,
          .page_tokens = options_.page_tokens,
          .dtype = options_.kv,
          .device = options_.device};
}

void ReferenceDecoder::Forward(absl::Span<Segment> segments) {
  for (Segment& segment : segments) segment.status = Run(segment);
}

absl::Status ReferenceDecoder::Run(Segment& segment) const {
  const int64_t rows = static_cast<int64_t>(segment.tokens.size());
  const std::vector<int64_t> ids(segment.tokens.begin(), segment.tokens.end());
  const at::Tensor indices =
      at::from_blob(const_cast<int64_t*>(ids.data()), {rows}, at::kLong).to(options_.device);
  const Rope::Angles angles = rope_.At(segment.first, rows);

  at::Tensor x = at::embedding(embedding_, indices).to(at::kFloat);  // [T, E]
  for (uint32_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    EBB_ASSIGN_OR_RETURN(const at::Tensor attended, Attention(layer, l, layer.input_norm(x), angles,
                                                              segment.cache->layer(l), segment.memory));
    x = x + attended;
    const at::Tensor normed = layer.post_attention_norm(x);
    x = x + layer.down(at::silu(layer.gate(normed)) * layer.up(normed)).to(at::kFloat);
  }
  if (segment.logit_rows == 0) return absl::OkStatus();
  const at::Tensor last = norm_(x.narrow(0, rows - segment.logit_rows, segment.logit_rows));
  const at::Tensor logits = head_(last).to(at::kFloat).to(at::kCPU).contiguous();
  segment.logits.assign(logits.data_ptr<float>(), logits.data_ptr<float>() + logits.numel());
  return absl::OkStatus();
}

}  // namespace ebbinghaus::model
