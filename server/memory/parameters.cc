#include "server/memory/parameters.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/range.h"

namespace ebbinghaus::memory {
namespace {

using base::GenerationMode;
using base::MemoryParameters;
using base::TokenRange;

enum class UsedBy { kBoth, kSoft, kSparse };

// A set of numbers and how a reader of the message sees it.
struct Range : base::Range {
  const char* text;
};
constexpr double kMostCount = std::numeric_limits<uint32_t>::max();
constexpr Range kUnit{{0, 1, true}, "in (0, 1]"};
constexpr Range kOpenUnit{{0, 1, true, true}, "in (0, 1)"};
constexpr Range kRatio{{0, 1}, "in [0, 1]"};
constexpr Range kStrength{{0, 1e6, true}, "in (0, 1e6]"};
constexpr Range kTimeStep{{0, 1e3}, "in [0, 1e3]"};
constexpr Range kCap{{0, std::numeric_limits<double>::max()},
                     "0 (no cap) or at least initial_strength, and finite"};
constexpr Range kPromptTicks{{0, kMaxPromptTicks}, "in [0, 1000]"};
constexpr Range kAtLeastOne{{1, kMostCount}, "at least 1"};
constexpr Range kAnyCount{{0, kMostCount}, "at least 0"};

// Takes over one field of a request after the other, and remembers which were bad, so that a rule
// over two fields only speaks when both are good by themselves.
class Resolution {
 public:
  Resolution(GenerationMode mode, base::Violations& violations)
      : mode_(mode), violations_(violations) {}

  template <typename T>
  void Number(const char* field, UsedBy by, const std::optional<T>& value, T& target,
              const Range& range) {
    if (!value || !Fits(field, by)) return;
    if (range.Has(*value)) {
      target = *value;
    } else {
      Reject(field, absl::StrCat("must be ", range.text, range.Remark(*value), ", not ", *value));
    }
  }

  template <typename Enum>
  void Choice(const char* field, UsedBy by, const std::optional<Enum>& value, Enum& target) {
    if (value && Fits(field, by)) target = *value;
  }

  // Whether the mode has such a field; a violation if not.
  bool Fits(const char* field, UsedBy by) {
    const UsedBy mode = mode_ == GenerationMode::kSoftDelete ? UsedBy::kSoft : UsedBy::kSparse;
    if (by == UsedBy::kBoth || by == mode) return true;
    Reject(field, absl::StrCat("is not used by generation_mode ", std::string(base::Name(mode_)),
                               "; leave it out or choose ",
                               std::string(base::Name(by == UsedBy::kSoft
                                                          ? GenerationMode::kSoftDelete
                                                          : GenerationMode::kSparseAttention))));
    return false;
  }

  // `field` may have an index, as in pinned[2].
  void Reject(const std::string& field, const std::string& description) {
    bad_.insert(field.substr(0, field.find('[')));
    violations_.Add(absl::StrCat("memory.", field), description);
  }

  bool Good(std::initializer_list<const char*> fields) const {
    return std::none_of(fields.begin(), fields.end(),
                        [&](const char* field) { return bad_.count(field) > 0; });
  }

 private:
  const GenerationMode mode_;
  base::Violations& violations_;
  std::set<std::string> bad_;
};

void TakeShared(const ParameterOverrides& r, MemoryParameters& p, Resolution& take) {
  const UsedBy both = UsedBy::kBoth;
  take.Number("initial_strength", both, r.initial_strength, p.initial_strength, kStrength);
  take.Number("time_step", both, r.time_step, p.time_step, kTimeStep);
  take.Number("reset_threshold", both, r.reset_threshold, p.reset_threshold, kUnit);
  take.Number("strength_cap", both, r.strength_cap, p.strength_cap, kCap);
  take.Number("observe_interval", both, r.observe_interval, p.observe_interval, kAtLeastOne);
  take.Number("prompt_ticks", both, r.prompt_ticks, p.prompt_ticks, kPromptTicks);
  take.Number("prompt_window_tokens", both, r.prompt_window_tokens, p.prompt_window_tokens,
              kAnyCount);
  take.Choice("prompt_observation", both, r.prompt_observation, p.prompt_observation);
}

void TakeSoft(const ParameterOverrides& r, MemoryParameters& p, Resolution& take) {
  const UsedBy soft = UsedBy::kSoft;
  take.Number("soft_floor", soft, r.soft_floor, p.soft_floor, kUnit);
  take.Number("soft_ceiling", soft, r.soft_ceiling, p.soft_ceiling, kUnit);
  take.Number("soft_layer_ratio", soft, r.soft_layer_ratio, p.soft_layer_ratio, kRatio);
  take.Choice("soft_form", soft, r.soft_form, p.soft_form);
}

void TakeSparse(const ParameterOverrides& r, MemoryParameters& p, Resolution& take) {
  const UsedBy sparse = UsedBy::kSparse;
  take.Number("forget_threshold", sparse, r.forget_threshold, p.forget_threshold, kOpenUnit);
  take.Number("vote_ratio", sparse, r.vote_ratio, p.vote_ratio, kUnit);
  take.Choice("vote_layers", sparse, r.vote_layers, p.vote_layers);
  take.Choice("scope", sparse, r.scope, p.scope);
  take.Number("sink_tokens", sparse, r.sink_tokens, p.sink_tokens, kAnyCount);
  take.Number("recent_tokens", sparse, r.recent_tokens, p.recent_tokens, kAnyCount);
  take.Number("min_live_tokens", sparse, r.min_live_tokens, p.min_live_tokens, kAtLeastOne);
  take.Number("max_live_tokens", sparse, r.max_live_tokens, p.max_live_tokens, kAnyCount);
  if (r.pinned.empty() || !take.Fits("pinned", sparse)) return;
  if (r.pinned.size() > kMaxPinnedRanges) {
    take.Reject("pinned", absl::StrCat("must have at most ", kMaxPinnedRanges, " ranges, has ",
                                       r.pinned.size(), "; join those that touch"));
    return;
  }
  for (size_t i = 0; i < r.pinned.size(); ++i) {
    const TokenRange& range = r.pinned[i];
    if (range.begin < range.end) continue;
    take.Reject(absl::StrCat("pinned[", i, "]"),
                absl::StrCat("begin must be less than end, not ", range.begin, " and ", range.end));
  }
  if (take.Good({"pinned"})) p.pinned = base::TokenRanges(r.pinned);
}

void CheckSharedRules(const MemoryParameters& p, Resolution& take) {
  if (take.Good({"strength_cap", "initial_strength"}) && p.strength_cap != 0 &&
      p.strength_cap < p.initial_strength) {
    take.Reject("strength_cap",
                absl::StrCat("must be 0 (no cap) or at least initial_strength, which is ",
                             p.initial_strength, ", not ", p.strength_cap));
  }
  const bool window = p.prompt_observation == base::PromptObservation::kWindow;
  if (window && p.prompt_window_tokens == 0) {
    take.Reject("prompt_window_tokens", "must be at least 1 with prompt_observation window");
  }
  if (!window && p.prompt_window_tokens > 0) {
    take.Reject("prompt_window_tokens",
                "must be 0 or left out unless prompt_observation is window");
  }
  if (take.Good({"prompt_ticks"}) && p.prompt_ticks > 0 &&
      p.prompt_observation == base::PromptObservation::kLast) {
    take.Reject("prompt_ticks", "must be 0 unless prompt_observation is window or all");
  }
}

void CheckBudget(const MemoryParameters& p, Resolution& take) {
  if (p.max_live_tokens == 0) return;
  const uint64_t pinned = p.pinned.tokens();
  const uint64_t least = uint64_t{p.sink_tokens} + p.recent_tokens + pinned + 1;
  if (p.max_live_tokens < least) {
    take.Reject("max_live_tokens",
                absl::StrCat("must be 0 (no budget) or at least ", least, " = sink_tokens ",
                             p.sink_tokens, " + recent_tokens ", p.recent_tokens, " + pinned ",
                             pinned, " + 1, not ", p.max_live_tokens));
  }
  if (take.Good({"min_live_tokens"}) && p.max_live_tokens < p.min_live_tokens) {
    take.Reject("max_live_tokens",
                absl::StrCat("must be 0 (no budget) or at least min_live_tokens, which is ",
                             p.min_live_tokens, ", not ", p.max_live_tokens));
  }
}

}  // namespace

std::string_view Name(Preset preset) {
  switch (preset) {
    case Preset::kOriginal:
      return "original";
    case Preset::kDefault:
      return "default";
    case Preset::kChat:
      return "chat";
    case Preset::kTight:
      return "tight";
  }
  return "unknown";
}

MemoryParameters PresetParameters(Preset preset) {
  MemoryParameters p;  // initialized to preset default
  switch (preset) {
    case Preset::kOriginal:
      p.soft_form = base::SoftForm::kKvScale;
      p.sink_tokens = 0;
      p.recent_tokens = 0;
      break;
    case Preset::kDefault:
      break;
    case Preset::kChat:
    case Preset::kTight:
      p.time_step = preset == Preset::kChat ? 0.05 : 0.175;
      p.scope = base::ForgetScope::kPerLayer;
      p.prompt_observation = base::PromptObservation::kAll;
      break;
  }
  return p;
}

MemoryParameters Resolve(GenerationMode mode, Preset fallback,
                         const std::optional<ParameterOverrides>& request,
                         base::Violations& violations) {
  const ParameterOverrides overrides = request.value_or(ParameterOverrides{});
  if (mode == GenerationMode::kBaseline) {
    if (!(overrides == ParameterOverrides{})) {
      violations.Add("memory",
                     "must be left out with generation_mode baseline, which keeps no memory");
    }
    return {};
  }
  MemoryParameters p = PresetParameters(overrides.preset.value_or(fallback));
  Resolution take(mode, violations);
  TakeShared(overrides, p, take);
  TakeSoft(overrides, p, take);
  TakeSparse(overrides, p, take);
  CheckSharedRules(p, take);
  if (mode == GenerationMode::kSparseAttention) CheckBudget(p, take);
  if (mode == GenerationMode::kSoftDelete && take.Good({"soft_floor", "soft_ceiling"}) &&
      p.soft_floor > p.soft_ceiling) {
    take.Reject("soft_floor", absl::StrCat("must be at most soft_ceiling, which is ",
                                           p.soft_ceiling, ", not ", p.soft_floor));
  }
  return p;
}

}  // namespace ebbinghaus::memory
