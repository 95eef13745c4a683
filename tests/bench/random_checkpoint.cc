#include "tests/bench/random_checkpoint.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <numeric>
#include <random>
#include <vector>

#include "absl/strings/match.h"
#include "server/base/check.h"
#include "server/kernels/half.h"

namespace ebbinghaus::bench {
namespace {

using model::TensorType;

constexpr size_t kPeriodBytes = size_t{4} << 20;  // about
constexpr float kScale = 0.02f;                   // of trained weights of this size

void Write16(uint16_t bits, std::byte* out) { std::memcpy(out, &bits, sizeof bits); }

// One block of `type`. Source: the block layouts of the GGML project.
void EncodeBlock(TensorType type, const float* x, std::byte* out) {
  const auto [low, high] = std::minmax_element(x, x + 32);
  switch (type) {
    case TensorType::kF32:
      std::memcpy(out, x, sizeof *x);
      return;
    case TensorType::kBf16:
      Write16(kernels::FloatToBf16(*x), out);
      return;
    case TensorType::kQ8_0: {
      const float step = std::max(-*low, *high) / 127;
      Write16(kernels::FloatToHalf(step), out);
      for (int i = 0; i < 32; ++i) out[2 + i] = static_cast<std::byte>(static_cast<int8_t>(std::lround(x[i] / step)));
      return;
    }
    case TensorType::kQ4_0:
    case TensorType::kQ4_1: {
      const bool minimum = type == TensorType::kQ4_1;
      const float most = -*low > *high ? *low : *high;
      const float step = minimum ? (*high - *low) / 15 : most / -8, zero = minimum ? -*low / step : 8;
      Write16(kernels::FloatToHalf(step), out);
      if (minimum) Write16(kernels::FloatToHalf(*low), out + 2);
      std::byte* codes = out + (minimum ? 4 : 2);
      const auto code = [&](float v) { return static_cast<uint8_t>(std::clamp(std::lround(v / step + zero), 0l, 15l)); };
      for (int i = 0; i < 16; ++i) codes[i] = static_cast<std::byte>(code(x[i]) | code(x[16 + i]) << 4);
      return;
    }
    default:
      EBB_CHECK(false && "a type that no random checkpoint has");
  }
}

}  // namespace

RepeatingPool::RepeatingPool(TensorType type, size_t bytes) {
  const model::TensorLayout& layout = model::LayoutOf(type);
  // Whole pages, whole blocks.
  const size_t unit = std::lcm(static_cast<size_t>(sysconf(_SC_PAGESIZE)), size_t{layout.block_bytes});
  period_ = std::max(kPeriodBytes / unit, size_t{1}) * unit;
  mapped_ = (bytes + period_ - 1) / period_ * period_;
  const int file = memfd_create("random-weights", 0);
  void* range = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (file < 0 || range == MAP_FAILED || ftruncate(file, static_cast<off_t>(period_)) != 0) throw std::bad_alloc();
  data_ = static_cast<std::byte*>(range);
  for (size_t at = 0; at < mapped_; at += period_) {
    if (mmap(data_ + at, period_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) throw std::bad_alloc();
  }
  close(file);

  std::mt19937 random(static_cast<unsigned>(type) + 1);
  std::normal_distribution<float> normal(0.0f, kScale);
  std::vector<float> values(32);
  for (size_t at = 0; at < period_; at += layout.block_bytes) {
    for (uint32_t i = 0; i < layout.block_values; ++i) {
      const float v = normal(random);
      values[i] = std::fabs(v) < 1e-4f ? 1e-4f : v;  // nothing that a half would hold as a subnormal
    }
    EncodeBlock(type, values.data(), data_ + at);
  }
}

RepeatingPool::~RepeatingPool() { munmap(data_, mapped_); }

RandomCheckpoint::RandomCheckpoint(TensorType type, TensorType embedding_type) {
  config_.name = "random Qwen2.5-0.5B";
  config_.architecture = model::Architecture::kQwen2;
  config_.layers = 24;
  config_.context = 32768;
  config_.hidden = 896;
  config_.feed_forward = 4864;
  config_.query_heads = 14;
  config_.kv_heads = 2;
  config_.head_size = 64;
  config_.vocabulary = 151936;
  config_.rope_theta = 1e6;
  config_.tied_embeddings = true;
  config_.qkv_bias = true;
  ones_.assign(config_.feed_forward, 1.0f);
  for (const model::TensorRequirement& required : RequiredTensors(config_)) {
    const bool matrix = required.shape.size() == 2;
    AddTensor(required, !matrix ? TensorType::kF32 : required.shape[0] == config_.vocabulary ? embedding_type : type);
  }
}

void RandomCheckpoint::AddTensor(const model::TensorRequirement& required, TensorType type) {
  const uint64_t bytes = model::TensorBytes(type, required.shape).value();
  const auto* data = reinterpret_cast<const std::byte*>(ones_.data());
  if (!absl::StrContains(required.name, "norm")) {
    std::unique_ptr<RepeatingPool>& pool = pools_[type];
    if (!pool) {  // room for the largest tensor at any offset
      const int64_t most[] = {config_.vocabulary, config_.hidden};
      pool = std::make_unique<RepeatingPool>(type, model::TensorBytes(type, most).value() + kPeriodBytes);
    }
    const uint64_t block = model::LayoutOf(type).block_bytes;
    data = pool->data() + std::hash<std::string>()(required.name) % (pool->period_bytes() / block) * block;
  }
  tensors_[required.name] = {.type = type,
                             .type_name = std::string(model::LayoutOf(type).name),
                             .shape = required.shape,
                             .data = absl::MakeConstSpan(data, bytes)};
}

const model::StoredTensor* RandomCheckpoint::Look(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

}  // namespace ebbinghaus::bench
