// Structure and tensor names follow the Hugging Face checkpoints of the Llama family; what differs between architectures
// is data in ModelConfig. Activations between matrices are fp32.
#include "server/model/packed_decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

using kernels::kBlockSlots;

// Rows that one thread does before another could have been told to.
constexpr int64_t kRowChunk = 4;

template <typename T>
void Grow(std::vector<T>& buffer, int64_t size) {
  if (buffer.size() < static_cast<size_t>(size)) buffer.resize(size);
}

// Room for a row of results: multiplication writes whole blocks.
int64_t Padded(int64_t columns) { return (columns + kernels::kLanes - 1) / kernels::kLanes * kernels::kLanes; }
// Parts of a linear are written in order, each over the padding of the one before.
int64_t OutputStride(const PackedLinear& linear) { return Padded(linear.rows) + kernels::kLanes; }

}  // namespace

PackedDecoder::PackedDecoder(const ModelConfig& config, const PackedOptions& options)
    : config_(config),
      layout_{.form = options.kv,
              .kv_heads = config.kv_heads,
              .head_size = config.head_size,
              .page_tokens = options.page_tokens},
      kernels_(*options.kernels),
      team_(options.threads),
      attention_(&kernels_, &team_, layout_, config.query_heads),
      inverse_frequencies_(RopeInverseFrequencies(config)) {}

absl::StatusOr<std::unique_ptr<PackedDecoder>> PackedDecoder::Load(const Checkpoint& checkpoint, const PackedOptions& options) {
  auto decoder = std::unique_ptr<PackedDecoder>(new PackedDecoder(checkpoint.config(), options));
  PackingCalls calls{.approve = {}, .progress = options.progress};
  if (options.memory_check) {
    calls.approve = [&](uint64_t bytes) { return options.memory_check(bytes, decoder->page_shape()); };
  }
  EBB_ASSIGN_OR_RETURN(decoder->weights_, PackWeights(checkpoint, options.weights, decoder->team_, calls));
  return decoder;
}

void PackedDecoder::Forward(absl::Span<Segment> segments) {
  Begin(segments);
  if (rows_.empty()) return;
  for (uint32_t l = 0; l < config_.layers; ++l) RunLayer(l);
  ComputeLogits();
}

// Makes room for the newborns everywhere before anything is computed, so that a segment is in the pass or not; embeds.
void PackedDecoder::Begin(absl::Span<Segment> segments) {
  segments_.clear();
  rows_.clear();
  const int64_t half = config_.head_size / 2, stride = Padded(config_.hidden);
  for (Segment& segment : segments) {
    segment.status = absl::OkStatus();
    for (uint32_t l = 0; l < config_.layers && segment.status.ok(); ++l) {
      segment.status = segment.cache->layer(l).Grow(static_cast<base::Slot>(segment.tokens.size()));
    }
    if (!segment.status.ok()) continue;
    segments_.push_back(&segment);
    for (size_t i = 0; i < segment.tokens.size(); ++i) rows_.push_back({&segment, static_cast<int64_t>(i), nullptr, nullptr});
  }
  Grow(x_, rows() * stride);
  Grow(angles_, rows() * half * 2);
  Grow(mass_, static_cast<int64_t>(segments_.size()));
  Grow(normed_, rows() * Padded(std::max({config_.hidden, config_.query_heads * config_.head_size, config_.feed_forward})));
  Grow(attended_, rows() * config_.query_heads * config_.head_size);
  Grow(update_, rows() * (Padded(config_.hidden) + kernels::kLanes));
  team_.For(rows(), kRowChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      Row& row = rows_[r];
      kernels::UnpackRow(weights_.embedding, row.segment->tokens[row.index], &x_[r * stride]);
      row.cosine = &angles_[r * half * 2];
      row.sine = row.cosine + half;
      const auto position = static_cast<float>(row.segment->first + row.index);
      for (int64_t i = 0; i < half; ++i) {
        const float angle = position * inverse_frequencies_[i];
        row.cosine[i] = std::cos(angle);
        row.sine[i] = std::sin(angle);
      }
    }
  });
}

void PackedDecoder::Multiply(const PackedLinear& linear, const float* x, int64_t x_stride, float* out, int64_t stride) {
  for (const kernels::PackedMatrix& part : linear.parts) {
    if (&part == linear.parts.data() || part.form != (&part - 1)->form) {
      kernels::PrepareRows(kernels_, team_, part.form, x, x_stride, rows(), linear.columns, prepared_);
    }
    kernels::Multiply(kernels_, team_, part, prepared_.rows(), rows(), out, stride);
    out += part.rows;
  }
}

void PackedDecoder::NormAndMultiply(const std::vector<float>& norm, const float* add, const PackedLinear& linear, float* out,
                                    int64_t stride) {
  const int64_t size = config_.hidden, x_stride = Padded(size), add_stride = x_stride + kernels::kLanes;
  const auto epsilon = static_cast<float>(config_.rms_norm_epsilon);
  team_.For(rows(), kRowChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* x = &x_[r * x_stride];
      if (add != nullptr) kernels_.add(add + r * add_stride, size, x);
      kernels_.rms_norm(x, norm.data(), epsilon, size, &normed_[r * x_stride]);
    }
  });
  Multiply(linear, normed_.data(), x_stride, out, stride);
}

void PackedDecoder::RunLayer(uint32_t index) {
  const PackedWeights::Layer& layer = weights_.layers[index];
  const int64_t qkv_stride = OutputStride(layer.query_key_value), hidden_stride = OutputStride(layer.gate_up);
  const int64_t update_stride = Padded(config_.hidden) + kernels::kLanes, ffn = config_.feed_forward;
  Grow(qkv_, rows() * qkv_stride);
  Grow(hidden_, rows() * hidden_stride);
  NormAndMultiply(layer.input_norm, index == 0 ? nullptr : update_.data(), layer.query_key_value, qkv_.data(), qkv_stride);
  StoreKeysAndValues(index);
  Attend(index);
  Multiply(layer.output, attended_.data(), config_.query_heads * config_.head_size, update_.data(), update_stride);
  NormAndMultiply(layer.post_attention_norm, update_.data(), layer.gate_up, hidden_.data(), hidden_stride);
  // A single row is shared by columns.
  constexpr int64_t kColumns = 2048;
  const int64_t chunks = (ffn + kColumns - 1) / kColumns;
  team_.For(rows() * chunks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % chunks * kColumns;
      float* gate = &hidden_[i / chunks * hidden_stride + first];
      kernels_.silu_multiply(gate, gate + ffn, std::min(kColumns, ffn - first));
    }
  });
  Multiply(layer.down, hidden_.data(), hidden_stride, update_.data(), update_stride);
}

// Rotates queries and keys, and stores the newborns' keys and values in their slots.
void PackedDecoder::StoreKeysAndValues(uint32_t index) {
  const PackedWeights::Layer& layer = weights_.layers[index];
  const int64_t size = config_.head_size, half = size / 2, heads = config_.query_heads, stride = OutputStride(layer.query_key_value);
  const auto epsilon = static_cast<float>(config_.rms_norm_epsilon);
  const auto scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(size)));
  team_.For(rows(), kRowChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const Row& row = rows_[r];
      float *query = &qkv_[r * stride], *key = query + heads * size, *value = key + config_.kv_heads * size;
      const cache::LayerCache& cache = row.segment->cache->layer(index);
      const int64_t slot = cache.live() - static_cast<int64_t>(row.segment->tokens.size()) + row.index;
      for (int64_t h = 0; h < heads; ++h, query += size) {
        if (config_.qk_norm) kernels_.rms_norm(query, layer.query_norm.data(), epsilon, size, query);
        kernels_.rotate(query, row.cosine, row.sine, half, scale);
      }
      for (int64_t h = 0; h < config_.kv_heads; ++h, key += size, value += size) {
        if (config_.qk_norm) kernels_.rms_norm(key, layer.key_norm.data(), epsilon, size, key);
        kernels_.rotate(key, row.cosine, row.sine, half, 1.0f);
        kernels::StoreToken(layout_, cache.page_bytes()[slot / layout_.page_tokens], h, slot % layout_.page_tokens, key, value);
      }
    }
  });
}

void PackedDecoder::Attend(uint32_t index) {
  const int64_t qkv_stride = OutputStride(weights_.layers[index].query_key_value);
  const int64_t out_stride = config_.query_heads * config_.head_size;
  tasks_.clear();
  int64_t row = 0;
  for (size_t s = 0; s < segments_.size(); ++s) {
    const Segment& segment = *segments_[s];
    const cache::LayerCache& cache = segment.cache->layer(index);
    kernels::AttentionTask task{.pages = cache.page_bytes(),
                                .live = cache.live(),
                                .rows = static_cast<int64_t>(segment.tokens.size()),
                                .queries = &qkv_[row * qkv_stride],
                                .query_stride = qkv_stride,
                                .out = &attended_[row * out_stride],
                                .out_stride = out_stride};
    Mass& mass = mass_[s];
    mass.wanted = {};
    if (segment.memory != nullptr) {
      const SlotMemory slots = segment.memory->Weights(index);
      task.weighting = slots.weighting;
      task.strength = slots.strength;
      task.last_reset = slots.last_reset;
      task.now = slots.now;
      mass.wanted = segment.memory->Wanted(index);
    }
    const bool summed = mass.wanted.first_summed_row < task.rows;
    if (summed) {
      mass.sums.assign(task.live, 0);
      mass.last_strong_row.assign(task.live, -1);
      task.first_mass_row = mass.wanted.first_summed_row;
      task.columns = {mass.sums.data(), mass.last_strong_row.data(), mass.wanted.strong};
    }
    if (mass.wanted.last_row || (summed && task.rows == 1)) {
      Grow(mass.last_row, (task.live + kBlockSlots - 1) / kBlockSlots * kBlockSlots);
      task.last_row_mass = mass.last_row.data();
    }
    tasks_.push_back(task);
    row += task.rows;
  }
  attention_.Run(tasks_);
  HandBackMass(index);
}

void PackedDecoder::HandBackMass(uint32_t index) {
  for (size_t s = 0; s < segments_.size(); ++s) {
    Mass& mass = mass_[s];
    const auto live = static_cast<size_t>(tasks_[s].live);
    if (mass.wanted.first_summed_row < tasks_[s].rows) {
      mass.sums_as_reals.resize(live);
      for (size_t i = 0; i < live; ++i) mass.sums_as_reals[i] = static_cast<double>(mass.sums[i]) * kernels::kMassUnit;
      segments_[s]->memory->ObservedRows(index, mass.sums_as_reals, mass.last_strong_row);
    }
    if (mass.wanted.last_row) segments_[s]->memory->ObservedLastRow(index, absl::MakeConstSpan(mass.last_row.data(), live));
  }
}

void PackedDecoder::ComputeLogits() {
  const int64_t size = config_.hidden, stride = Padded(size), vocabulary = config_.vocabulary;
  const int64_t logit_stride = Padded(vocabulary);
  const auto epsilon = static_cast<float>(config_.rms_norm_epsilon);
  int64_t row = 0, wanted = 0;
  for (Segment* segment : segments_) {
    const auto count = static_cast<int64_t>(segment->tokens.size());
    for (int64_t i = count - segment->logit_rows; i < count; ++i, ++wanted) {
      float* x = &x_[(row + i) * stride];
      kernels_.add(&update_[(row + i) * (stride + kernels::kLanes)], size, x);
      kernels_.rms_norm(x, weights_.norm.data(), epsilon, size, &normed_[wanted * stride]);
    }
    row += count;
  }
  if (wanted == 0) return;
  Grow(logits_, wanted * logit_stride);
  kernels::PrepareRows(kernels_, team_, weights_.head.form, normed_.data(), stride, wanted, size, prepared_);
  kernels::Multiply(kernels_, team_, weights_.head, prepared_.rows(), wanted, logits_.data(), logit_stride);
  const float* from = logits_.data();
  for (Segment* segment : segments_) {
    segment->logits.resize(segment->logit_rows * vocabulary);
    for (int64_t i = 0; i < segment->logit_rows; ++i, from += logit_stride) {
      std::memcpy(&segment->logits[i * vocabulary], from, vocabulary * sizeof *from);
    }
  }
}

}  // namespace ebbinghaus::model
