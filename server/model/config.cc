#include "server/model/config.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numbers>

#include "absl/strings/str_cat.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::model {
namespace {

constexpr std::string_view kNames[] = {"llama", "mistral", "qwen2", "qwen3"};

// Far above any model there is, and small enough that a product of any three fits 63 bits.
constexpr int64_t kMaxLayers = 1024, kMaxContext = 1 << 27, kMaxHidden = 1 << 18, kMaxFeedForward = 1 << 20;
constexpr int64_t kMaxHeads = 4096, kMaxHeadSize = 4096, kMaxVocabulary = 1 << 22;

class Checks {
 public:
  explicit Checks(const ConfigKeys& keys) : keys_(keys) {}

  void Fail(const std::string& key, const std::string& what) {
    status_.Update(absl::InvalidArgumentError(absl::StrCat(keys_.file, ": ", key, " ", what)));
  }
  void Size(const std::string& key, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) Fail(key, absl::StrCat("is ", value, ", but must be in [", low, ", ", high, "]"));
  }
  // NaN is out of every range.
  void Real(const std::string& key, double value, double low, double high) {
    if (!(value >= low && value <= high)) Fail(key, absl::StrCat("is ", value, ", but must be in [", low, ", ", high, "]"));
  }
  const absl::Status& status() const { return status_; }

 private:
  const ConfigKeys& keys_;
  absl::Status status_;
};

void CheckRope(const ModelConfig& c, const ConfigKeys& keys, Checks& checks) {
  checks.Real(keys.rope_theta, c.rope_theta, 1, 1e12);
  const RopeScaling& s = c.rope_scaling;
  checks.Real(keys.rope_scaling + "factor", s.factor, 1, 1e6);
  checks.Real(keys.rope_scaling + "low_freq_factor", s.low_frequency_factor, 1e-6, 1e6);
  checks.Real(keys.rope_scaling + "high_freq_factor", s.high_frequency_factor, 1e-6, 1e6);
  if (s.high_frequency_factor <= s.low_frequency_factor) {
    checks.Fail(keys.rope_scaling + "high_freq_factor", "must be above low_freq_factor");
  }
  checks.Real(keys.rope_scaling + "original_max_position_embeddings", s.original_context, 1, static_cast<double>(kMaxContext));
  if (c.rope_factors.empty()) return;
  if (static_cast<int64_t>(c.rope_factors.size()) != c.head_size / 2) {
    checks.Fail(keys.rope_factors, absl::StrCat("has ", c.rope_factors.size(), " entries, but half of ", keys.head_size, " is ",
                                                c.head_size / 2));
  }
  for (float factor : c.rope_factors) {
    if (!(factor >= 1e-6f && factor <= 1e6f)) return checks.Fail(keys.rope_factors, "holds a factor outside [1e-6, 1e6]");
  }
}

void CheckTokens(const ModelConfig& c, const ConfigKeys& keys, Checks& checks) {
  const auto check = [&](const std::string& key, base::TokenId id) {
    if (id >= c.vocabulary) checks.Fail(key, absl::StrCat("is ", id, ", but the vocabulary has ", c.vocabulary, " entries"));
  };
  for (base::TokenId id : c.eos_token_ids) check(keys.eos_token_id, id);
  if (c.bos_token_id) check(keys.bos_token_id, *c.bos_token_id);
}

// The scaling of Llama 3.1: long waves are stretched, short ones kept, those between blended.
float ScaleLlama3(float frequency, const RopeScaling& scaling) {
  const auto factor = static_cast<float>(scaling.factor), original = static_cast<float>(scaling.original_context);
  const auto low = static_cast<float>(scaling.low_frequency_factor), high = static_cast<float>(scaling.high_frequency_factor);
  const float wave_length = static_cast<float>(2 * std::numbers::pi) / frequency;
  if (wave_length > original / low) return frequency / factor;
  if (wave_length < original / high) return frequency;
  const float keep = (original / wave_length - low) / (high - low);
  return (1 - keep) * frequency / factor + keep * frequency;
}

}  // namespace

std::string_view Name(Architecture architecture) { return kNames[static_cast<int>(architecture)]; }

absl::StatusOr<Architecture> ParseArchitecture(std::string_view name) {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (name == kNames[i]) return static_cast<Architecture>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat("the architecture \"", std::string(name.substr(0, 64)),
                                                 "\" is not supported; supported are llama, mistral, qwen2 and qwen3"));
}

uint32_t CapContext(uint32_t context, int64_t window) {
  return window <= 0 ? context : static_cast<uint32_t>(std::min<int64_t>(context, window));
}

absl::Status CheckConfig(const ModelConfig& c, const ConfigKeys& keys) {
  Checks checks(keys);
  checks.Size(keys.layers, c.layers, 1, kMaxLayers);
  checks.Size(keys.context, c.context, 1, kMaxContext);
  checks.Size(keys.hidden, c.hidden, 1, kMaxHidden);
  checks.Size(keys.feed_forward, c.feed_forward, 1, kMaxFeedForward);
  checks.Size(keys.query_heads, c.query_heads, 1, kMaxHeads);
  checks.Size(keys.kv_heads, c.kv_heads, 1, kMaxHeads);
  checks.Size(keys.head_size, c.head_size, 2, kMaxHeadSize);
  checks.Size(keys.vocabulary, c.vocabulary, 1, kMaxVocabulary);
  checks.Real(keys.rms_norm_epsilon, c.rms_norm_epsilon, 0, 1);
  EBB_RETURN_IF_ERROR(checks.status());
  if (c.query_heads % c.kv_heads != 0) {
    checks.Fail(keys.kv_heads, absl::StrCat("is ", c.kv_heads, ", which does not divide ", keys.query_heads, ", ", c.query_heads));
  }
  if (c.head_size % 2 != 0) checks.Fail(keys.head_size, absl::StrCat("is ", c.head_size, ", but must be even"));
  CheckRope(c, keys, checks);
  CheckTokens(c, keys, checks);
  return checks.status();
}

std::vector<float> RopeInverseFrequencies(const ModelConfig& config) {
  const RopeScaling& scaling = config.rope_scaling;
  std::vector<float> inverse(config.head_size / 2);
  for (size_t i = 0; i < inverse.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_size);
    const double power = std::pow(static_cast<double>(static_cast<float>(config.rope_theta)), static_cast<double>(exponent));
    float frequency = 1.0f / static_cast<float>(power);
    if (scaling.kind == RopeScaling::Kind::kLinear) frequency /= static_cast<float>(scaling.factor);
    if (scaling.kind == RopeScaling::Kind::kLlama3) frequency = ScaleLlama3(frequency, scaling);
    if (!config.rope_factors.empty()) frequency /= config.rope_factors[i];
    inverse[i] = frequency;
  }
  return inverse;
}

}  // namespace ebbinghaus::model
