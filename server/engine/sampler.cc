#include "server/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
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

// A float's order as that of a signed integer, which compilers turn into vector instructions without being told to bend
// the rules of floating point.
int32_t OrderKey(float value) {
  int32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

bool AllFinite(absl::Span<const float> values) {
  constexpr int32_t kExponent = 0x7f800000;
  int32_t bad = 0;
  for (const float value : values) {
    int32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bad |= -static_cast<int32_t>((bits & kExponent) == kExponent);
  }
  return bad == 0;
}

// Index of the first of the largest. Requires: not empty, no NaN.
size_t Largest(absl::Span<const float> values) {
  int32_t largest = std::numeric_limits<int32_t>::min();
  for (const float value : values) largest = std::max(largest, OrderKey(value));
  return std::find_if(values.begin(), values.end(), [&](float value) { return OrderKey(value) == largest; }) - values.begin();
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

// A heap of the best so far, so that the vocabulary is neither copied nor sorted for every token.
std::vector<base::Candidate> LogProbabilities::Top(uint32_t count) const {
  std::vector<Ranked> best;  // the worst first
  best.reserve(std::min<size_t>(count, logits_.size()) + 1);
  for (base::TokenId id = 0; id < logits_.size() && count > 0; ++id) {
    const Ranked token{logits_[id], id};
    if (best.size() == count && !Before(token, best.front())) continue;
    best.push_back(token);
    std::push_heap(best.begin(), best.end(), Before);
    if (best.size() <= count) continue;
    std::pop_heap(best.begin(), best.end(), Before);
    best.pop_back();
  }
  std::sort_heap(best.begin(), best.end(), Before);
  std::vector<base::Candidate> top;
  for (const auto& [logit, id] : best) top.push_back({id, (*this)[id]});
  return top;
}

Sampler::Sampler(base::SamplingParameters parameters, absl::Span<const base::TokenId> prompt,
                 const kernels::KernelTable& kernels)
    : parameters_(std::move(parameters)), kernels_(kernels), seen_(prompt.begin(), prompt.end()) {
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
  // A penalty at the edge of its range takes a finite logit out of fp32's.
  constexpr float kMost = std::numeric_limits<float>::max();
  for (float& logit : logits) logit = std::clamp(logit, -kMost, kMost);
}

bool Sampler::ChangesLogits() const {
  return parameters_.repetition_penalty != 1 || parameters_.presence_penalty != 0 || parameters_.frequency_penalty != 0 ||
         !parameters_.logit_bias.empty();
}

absl::StatusOr<base::TokenId> Sampler::Sample(absl::Span<const float> logits, base::Position position,
                                              absl::Span<const base::TokenId> banned) {
  if (!AllFinite(logits)) return absl::InternalError("the model computed logits that are not finite");
  if (ChangesLogits() || !banned.empty()) {
    changed_.assign(logits.begin(), logits.end());
    Penalize(absl::MakeSpan(changed_));
    for (base::TokenId id : banned) changed_[id] = kImpossible;
    logits = changed_;
  }
  const size_t largest = Largest(logits);
  if (logits[largest] == kImpossible) return absl::InternalError("every token of the vocabulary is banned");
  auto id = static_cast<base::TokenId>(largest);
  if (parameters_.temperature > 0) id = Draw(logits, id, position);
  if (output_counts_[id]++ == 0) {
    const auto at = std::lower_bound(seen_.begin(), seen_.end(), id);
    if (at == seen_.end() || *at != id) seen_.insert(at, id);
  }
  return id;
}

// What top-p's prefix must reach. Weights are fp32, so a prefix that has the share exactly may lack a rounding.
double Sampler::Share(double total) const {
  return parameters_.top_p < 1 ? parameters_.top_p * total * (1 - 1e-6) : std::numeric_limits<double>::infinity();
}

// Fills ranked_ with at least the tokens that top-k, top-p and min-p can keep, looking at the light ones only where it must.
// Returns the weight of all that top-k keeps, which top-p takes its share of.
double Sampler::CollectCandidates(absl::Span<const float> logits, double total) {
  for (float least = 1e-2f;; least *= 1e-3f) {
    const bool all = least < 1e-30f;
    ranked_.clear();
    double sum = 0;
    for (base::TokenId id = 0; id < logits.size(); ++id) {
      if (weights_[id] < least && !(all && weights_[id] > 0)) continue;
      ranked_.push_back({logits[id], id});
      sum += weights_[id];
    }
    if (parameters_.top_k > 0 && parameters_.top_k <= ranked_.size()) {
      const auto end = ranked_.begin() + parameters_.top_k;
      std::nth_element(ranked_.begin(), end - 1, ranked_.end(), Before);
      ranked_.erase(end, ranked_.end());
      sum = 0;
      for (const Ranked& token : ranked_) sum += weights_[token.second];
      return sum;
    }
    if (parameters_.top_k == 0 && (sum >= Share(total) || parameters_.min_p > least)) return total;
    if (all) return parameters_.top_k > 0 ? sum : total;
  }
}

// Requires: `best`'s logit is finite and the largest.
base::TokenId Sampler::Draw(absl::Span<const float> logits, base::TokenId best, base::Position position) {
  // Relative to the heaviest token's.
  const auto scale = static_cast<float>(std::min(1 / parameters_.temperature, 1e30));  // a tiny one is greedy, not infinite
  weights_.resize(logits.size());
  const float largest = logits[best];
  for (size_t i = 0; i < logits.size(); ++i) weights_[i] = (logits[i] - largest) * scale;
  kernels_.exponentials(weights_.data(), static_cast<int64_t>(weights_.size()), weights_.data());
  double total = 0;
  for (const float weight : weights_) total += weight;
  const double share = Share(CollectCandidates(logits, total));

  // Walk down the ranking, sorting only as far as the walk goes. top-p keeps the shortest prefix that reaches its
  // share; min-p what weighs at least that fraction of the heaviest.
  std::vector<double> prefix;  // cumulative weights of what is kept
  size_t sorted = 0;
  double sum = 0;
  for (size_t i = 0; i < ranked_.size(); ++i) {
    if (i == sorted) {
      const size_t next = std::min(ranked_.size(), std::max<size_t>(64, sorted * 4));
      std::partial_sort(ranked_.begin() + sorted, ranked_.begin() + next, ranked_.end(), Before);
      sorted = next;
    }
    const double weight = weights_[ranked_[i].second];
    if (i > 0 && weight < parameters_.min_p) break;
    sum += weight;
    prefix.push_back(sum);
    if (sum >= share) break;
  }
  if (prefix.empty()) return best;
  const double target = UniformAt(parameters_.seed, position) * sum;
  const size_t drawn = std::upper_bound(prefix.begin(), prefix.end(), target) - prefix.begin();
  return ranked_[std::min(drawn, prefix.size() - 1)].second;
}

}  // namespace ebbinghaus::engine
