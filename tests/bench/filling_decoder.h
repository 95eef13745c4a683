// A decoder that can pretend to have read a prompt. Reading 32,000 tokens takes minutes, and what decoding then costs does
// not depend on what they were; so while filling() is on, a prompt gets random keys and values, in every slot, so that the
// memory is really there.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/model/decoder.h"

namespace ebbinghaus::bench {

class FillingDecoder final : public model::Decoder {
 public:
  explicit FillingDecoder(std::unique_ptr<model::Decoder> decoder);

  bool filling() const { return filling_; }
  void set_filling(bool on) { filling_ = on; }

  const model::ModelConfig& config() const override { return decoder_->config(); }
  cache::PageShape page_shape() const override { return decoder_->page_shape(); }
  uint64_t weight_bytes() const override { return decoder_->weight_bytes(); }
  const kernels::KernelTable& kernels() const override { return decoder_->kernels(); }
  bool batches() const override { return decoder_->batches(); }
  // Segments of several tokens are filled where filling() is on; all others are computed.
  void Forward(absl::Span<model::Segment> segments) override;

 private:
  void Fill(model::Segment& segment) const;
  absl::Status FillLayer(uint32_t layer, model::Segment& segment) const;
  static void HandBackEvenMass(uint32_t layer, const model::Segment& segment);

  const std::unique_ptr<model::Decoder> decoder_;
  bool filling_ = false;
  // Full pages of random numbers to copy from, where pages are packed.
  std::vector<std::vector<std::byte>> pages_;
  std::vector<model::Segment> computed_;  // of the pass under way
};

// One page of random keys and values, all its slots and heads, for kernels to read.
std::vector<std::byte> RandomPage(const kernels::KvLayout& layout, unsigned seed);

}  // namespace ebbinghaus::bench
