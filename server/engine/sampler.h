// From logits to one token. Randomness is keyed by (seed, position), so a request's tokens never depend on what else
// runs (idea: google/gemma.cpp).
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/base/engine.h"
#include "server/base/generation.h"
#include "server/kernels/kernels.h"

namespace ebbinghaus::engine {

// A uniform number in [0, 1) that depends on nothing else. Source: SplitMix64 (Steele et al. 2014).
double UniformAt(uint64_t seed, base::Position position);

// ln softmax(logits)[id], over the whole vocabulary, in double.
class LogProbabilities {
 public:
  explicit LogProbabilities(absl::Span<const float> logits);  // [V]; must outlive this
  double operator[](base::TokenId id) const { return logits_[id] - log_sum_; }
  // The `count` most likely tokens, by falling probability (ties: lower id first).
  std::vector<base::Candidate> Top(uint32_t count) const;

 private:
  absl::Span<const float> logits_;
  double log_sum_;
};

// One sequence's sampling: its parameters and what it has seen so far. One thread.
class Sampler {
 public:
  // `kernels`: what exponentials are computed with; by default the processor's best.
  Sampler(base::SamplingParameters parameters, absl::Span<const base::TokenId> prompt,
          const kernels::KernelTable& kernels = *kernels::KernelsFor(*kernels::ChooseTarget("")));

  // In this order: repetition (prompt and output), presence and frequency penalty (output), logit bias, `banned` ids;
  // then greedy at temperature 0, else temperature, top-k, top-p, min-p and a draw at `position`. What penalties and bias
  // take out of fp32's range counts as its largest or smallest number.
  // logits: [V]. Errors: Internal when they are not finite, or when every id is banned.
  absl::StatusOr<base::TokenId> Sample(absl::Span<const float> logits, base::Position position,
                                       absl::Span<const base::TokenId> banned);

 private:
  bool ChangesLogits() const;
  void Penalize(absl::Span<float> logits) const;
  base::TokenId Draw(absl::Span<const float> logits, base::TokenId best, base::Position position);
  double Share(double total) const;
  double CollectCandidates(absl::Span<const float> logits, double total);

  const base::SamplingParameters parameters_;
  const kernels::KernelTable& kernels_;
  std::unordered_map<base::TokenId, uint32_t> output_counts_;
  std::vector<base::TokenId> seen_;  // prompt and output, distinct
  // Reused between draws.
  std::vector<float> changed_;                           // logits after penalties and bans
  std::vector<float> weights_;                           // [V] exp((logit - largest) / temperature)
  std::vector<std::pair<float, base::TokenId>> ranked_;  // (logit, id) of those that may be drawn
};

}  // namespace ebbinghaus::engine
