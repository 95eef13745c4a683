#include "server/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace ebbinghaus::engine {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

using Ranked = std::pair<float, base::TokenId>;

// By falling logit; ties go to the lower id, so that results do not depend on how a sort breaks them.
bool Before(const Ranked& a, const Ranked& b) {
  return a.first > b.first || (a.first == b.first && a.second < b.second);
}

}  // namespace

double UniformAt(uint64_t seed, base::Position position) {
  return static_cast<double>(Mix(Mix(seed) ^ position) >> 11) * 0x1.0p-53;
}

LogProbabilities::LogProbabilities(absl::Span<const float> logits) : logits_(logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - largest);
  log_sum_ = largest + std::log(sum);
}

std::vector<base::Candidate> LogProbabilities::Top(uint32_t count) const {
  std::vector<Ranked> ranked(logits_.size());
  for (base::TokenId id = 0; id < ranked.size(); ++id) ranked[id] = {logits_[id], id};
  const size_t kept = std::min<size_t>(count, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + kept, ranked.end(), Before);
  std::vector<base::Candidate> top(kept);
  for (size_t i = 0; i < kept; ++i) top[i] = {ranked[i].second, (*this)[ranked[i].second]};
  return top;
}

Sampler::Sampler(base::SamplingParameters parameters, absl::Span<const base::TokenId> prompt)
    : parameters_(std::move(parameters)), seen_(prompt.begin(), prompt.end()) {
  std::sort(seen_.begin(), seen_.end());
  seen_.erase(std::unique(seen_.begin(), seen_.end()), seen_.end());
}

void Sampler::Penalize(absl::Span<float> logits) const {
  if (parameters_.repetition_penalty != 1) {
    const float penalty = static_cast<float>(parameters_.repetition_penalty);
    for (base::TokenId id : seen_) logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
  }
  if (parameters_.presence_penalty != 0 || parameters_.frequency_penalty != 0) {
    for (const auto& [id, count] : output_counts_) {
      logits[id] -= static_cast<float>(parameters_.presence_penalty + parameters_.frequency_penalty * count);
    }
  }
  for (const auto& [id, bias] : parameters_.logit_bias) logits[id] += static_cast<float>(bias);
}

absl::StatusOr<base::TokenId> Sampler::Sample(absl::Span<float> logits, base::Position position,
                                              absl::Span<const base::TokenId> banned) {
  for (float logit : logits) {
    if (!std::isfinite(logit)) return absl::InternalError("the model computed logits that are not finite");
  }
  Penalize(logits);
  for (base::TokenId id : banned) logits[id] = kImpossible;

  const auto largest = std::max_element(logits.begin(), logits.end());
  if (*largest == kImpossible) return absl::InternalError("every token of the vocabulary is banned");
  auto id = static_cast<base::TokenId>(largest - logits.begin());
  if (parameters_.temperature > 0) id = Draw(logits, position);
  if (output_counts_[id]++ == 0) {
    const auto at = std::lower_bound(seen_.begin(), seen_.end(), id);
    if (at == seen_.end() || *at != id) seen_.insert(at, id);
  }
  return id;
}

base::TokenId Sampler::Draw(absl::Span<const float> logits, base::Position position) {
  // Weights relative to the heaviest token: exp((logit - largest) / temperature).
  const float largest = *std::max_element(logits.begin(), logits.end());
  const auto weight = [&](float logit) { return std::exp((static_cast<double>(logit) - largest) / parameters_.temperature); };
  double total = 0;
  ranked_.clear();
  for (base::TokenId id = 0; id < logits.size(); ++id) {
    if (logits[id] == kImpossible) continue;
    ranked_.push_back({logits[id], id});
    total += weight(logits[id]);
  }

  size_t kept = ranked_.size();
  if (parameters_.top_k > 0 && parameters_.top_k < kept) {
    kept = parameters_.top_k;
    std::nth_element(ranked_.begin(), ranked_.begin() + kept - 1, ranked_.end(), Before);
    total = 0;
    for (size_t i = 0; i < kept; ++i) total += weight(ranked_[i].first);
  }

  // Walk down the ranking, sorting only as far as the walk goes. top-p keeps the shortest prefix that reaches its
  // share; min-p what weighs at least that fraction of the heaviest.
  std::vector<double> prefix;  // cumulative weights of what is kept
  size_t sorted = 0;
  double sum = 0;
  for (size_t i = 0; i < kept; ++i) {
    if (i == sorted) {
      const size_t next = std::min(kept, std::max<size_t>(64, sorted * 4));
      std::partial_sort(ranked_.begin() + sorted, ranked_.begin() + next, ranked_.begin() + kept, Before);
      sorted = next;
    }
    const double w = weight(ranked_[i].first);
    if (i > 0 && (w < parameters_.min_p || w == 0)) break;
    sum += w;
    prefix.push_back(sum);
    if (sum >= parameters_.top_p * total) break;
  }
  const double target = UniformAt(parameters_.seed, position) * sum;
  const size_t drawn = std::upper_bound(prefix.begin(), prefix.end(), target) - prefix.begin();
  return ranked_[std::min(drawn, prefix.size() - 1)].second;
}

}  // namespace ebbinghaus::engine
