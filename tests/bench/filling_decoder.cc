#include "tests/bench/filling_decoder.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

#include <ATen/ops/randn.h>

#include "server/base/status_macros.h"
#include "server/kernels/kv_layout.h"

namespace ebbinghaus::bench {
namespace {

constexpr size_t kDistinctPages = 61;  // prime, so that layers and pages do not fall into step

}  // namespace

std::vector<std::byte> RandomPage(const kernels::KvLayout& layout, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<std::byte> page(layout.page_bytes());
  std::vector<float> key(layout.head_size), value(layout.head_size);
  for (int64_t head = 0; head < layout.kv_heads; ++head) {
    for (int64_t slot = 0; slot < layout.page_tokens; ++slot) {
      for (float& k : key) k = normal(random);
      for (float& v : value) v = normal(random);
      kernels::StoreToken(layout, page.data(), head, slot, key.data(), value.data());
    }
  }
  return page;
}

FillingDecoder::FillingDecoder(std::unique_ptr<model::Decoder> decoder) : decoder_(std::move(decoder)) {
  const cache::PageShape shape = decoder_->page_shape();
  if (!shape.packed) return;
  for (unsigned i = 0; i < kDistinctPages; ++i) pages_.push_back(RandomPage(*shape.packed, i));
}

void FillingDecoder::Forward(absl::Span<model::Segment> segments) {
  const auto filled = [this](const model::Segment& segment) { return filling_ && segment.tokens.size() > 1; };
  if (std::none_of(segments.begin(), segments.end(), filled)) return decoder_->Forward(segments);
  computed_.clear();
  for (model::Segment& segment : segments) {
    if (filled(segment)) {
      Fill(segment);
    } else {
      computed_.push_back(std::move(segment));
    }
  }
  if (computed_.empty()) return;
  decoder_->Forward(absl::MakeSpan(computed_));
  auto from = computed_.begin();
  for (model::Segment& segment : segments) {
    if (!filled(segment)) segment = std::move(*from++);
  }
}

void FillingDecoder::Fill(model::Segment& segment) const {
  for (uint32_t l = 0; l < config().layers; ++l) {
    segment.status = FillLayer(l, segment);
    if (!segment.status.ok()) return;
    if (segment.memory != nullptr) HandBackEvenMass(l, segment);
  }
  segment.logits.assign(segment.logit_rows * config().vocabulary, 0.0f);
}

absl::Status FillingDecoder::FillLayer(uint32_t layer, model::Segment& segment) const {
  cache::LayerCache& cache = segment.cache->layer(layer);
  const auto count = static_cast<int64_t>(segment.tokens.size());
  const cache::PageShape shape = decoder_->page_shape();
  if (!shape.packed) {
    const std::vector<int64_t> size = {count, shape.kv_heads, shape.head_size};
    return cache.Append(at::randn(size), at::randn(size));
  }
  const size_t first = cache.live() / shape.page_tokens;
  EBB_RETURN_IF_ERROR(cache.Grow(static_cast<base::Slot>(count)));
  for (size_t page = first; page < cache.page_count(); ++page) {
    const std::vector<std::byte>& from = pages_[(layer * 7 + page) % pages_.size()];
    std::memcpy(cache.page_bytes()[page], from.data(), from.size());
  }
  return absl::OkStatus();
}

// Every row looks at all it sees alike, so that its mass adds up to 1.
void FillingDecoder::HandBackEvenMass(uint32_t layer, const model::Segment& segment) {
  const int64_t live = segment.cache->layer(layer).live(), rows = static_cast<int64_t>(segment.tokens.size());
  const model::WantedMass wanted = segment.memory->Wanted(layer);
  if (wanted.first_summed_row < rows) {
    std::vector<double> sums(live);
    std::vector<int32_t> last_strong(live, -1);
    double sum = 0;
    int32_t strong = -1;
    for (int64_t slot = live - 1; slot >= 0; --slot) {  // rows after the slot's own see it
      const int64_t row = slot - (live - rows);
      const double mass = 1.0 / static_cast<double>(slot + 1);
      if (row >= wanted.first_summed_row) {
        sum += mass;
        if (strong < 0 && mass >= wanted.strong) strong = static_cast<int32_t>(row);
      }
      sums[slot] = sum;
      last_strong[slot] = strong;
    }
    segment.memory->ObservedRows(layer, sums, last_strong);
  }
  if (wanted.last_row) {
    const std::vector<float> mass(live, 1.0f / static_cast<float>(live));
    segment.memory->ObservedLastRow(layer, mass);
  }
}

}  // namespace ebbinghaus::bench
