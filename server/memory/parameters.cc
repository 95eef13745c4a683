#include "server/memory/parameters.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::memory {
namespace {

using base::GenerationMode;
using base::MemoryParameters;

enum class UsedBy { kBoth, kSoft, kSparse };

bool Uses(GenerationMode mode, UsedBy by) {
  return by == UsedBy::kBoth || (by == UsedBy::kSoft) == (mode == GenerationMode::kSoftDelete);
}

// Checks and takes over the fields of one request, one call per field, so that name, owner and range stand side by side.
class Overrides {
 public:
  Overrides(GenerationMode mode, base::Violations& violations) : mode_(mode), violations_(violations) {}

  template <typename T, typename Valid>
  void Take(const char* field, UsedBy by, const std::optional<T>& value, T& target, Valid valid, const char* range) {
    if (!value) return;
    if (!Uses(mode_, by)) {
      Add(field, absl::StrCat("is not used by ", std::string(base::Name(mode_)), "; leave it out"));
    } else if (!valid(*value)) {
      Add(field, absl::StrCat("must be ", range));
    } else {
      target = *value;
    }
  }

  template <typename T>
  void Take(const char* field, UsedBy by, const std::optional<T>& value, T& target) {
    Take(field, by, value, target, [](const T&) { return true; }, "");
  }

  void Add(const char* field, std::string description) { violations_.Add(absl::StrCat("memory.", field), std::move(description)); }

 private:
  const GenerationMode mode_;
  base::Violations& violations_;
};

// Comparisons with NaN are false, so NaN fails every range.
auto Between(double low, double high) {
  return [=](double v) { return v >= low && v <= high; };
}
auto AboveUpTo(double low, double high) {
  return [=](double v) { return v > low && v <= high; };
}
const auto kAny = [](uint32_t) { return true; };

// What the clock can count without overflow: prompts are shorter than 2^24 tokens.
constexpr uint32_t kMaxPromptTicks = 100;

void TakeShared(Overrides& take, const ParameterOverrides& r, MemoryParameters& p) {
  const UsedBy both = UsedBy::kBoth;
  take.Take("initial_strength", both, r.initial_strength, p.initial_strength, AboveUpTo(0, 1e6), "in (0, 1e6]");
  take.Take("time_step", both, r.time_step, p.time_step, Between(0, 1e3), "in [0, 1e3]");
  take.Take("reset_threshold", both, r.reset_threshold, p.reset_threshold, AboveUpTo(0, 1), "in (0, 1]");
  take.Take("observe_interval", both, r.observe_interval, p.observe_interval, [](uint32_t v) { return v >= 1; }, "at least 1");
  take.Take("prompt_ticks", both, r.prompt_ticks, p.prompt_ticks, [](uint32_t v) { return v <= kMaxPromptTicks; }, "in [0, 100]");
  take.Take("prompt_observation", both, r.prompt_observation, p.prompt_observation);
  take.Take("prompt_window_tokens", both, r.prompt_window_tokens, p.prompt_window_tokens, [](uint32_t v) { return v >= 1; }, "at least 1");
  take.Take("strength_cap", both, r.strength_cap, p.strength_cap, Between(0, 1e9), "0 (no cap) or at least initial_strength, at most 1e9");
}

void TakeOwn(Overrides& take, const ParameterOverrides& r, MemoryParameters& p) {
  const UsedBy soft = UsedBy::kSoft, sparse = UsedBy::kSparse;
  take.Take("soft_floor", soft, r.soft_floor, p.soft_floor, AboveUpTo(0, 1), "in (0, 1] and at most soft_ceiling");
  take.Take("soft_ceiling", soft, r.soft_ceiling, p.soft_ceiling, AboveUpTo(0, 1), "in (0, 1] and at least soft_floor");
  take.Take("soft_layer_ratio", soft, r.soft_layer_ratio, p.soft_layer_ratio, Between(0, 1), "in [0, 1]");
  take.Take("soft_form", soft, r.soft_form, p.soft_form);
  take.Take("forget_threshold", sparse, r.forget_threshold, p.forget_threshold, [](double v) { return v > 0 && v < 1; }, "in (0, 1)");
  take.Take("vote_ratio", sparse, r.vote_ratio, p.vote_ratio, AboveUpTo(0, 1), "in (0, 1]");
  take.Take("vote_layers", sparse, r.vote_layers, p.vote_layers);
  take.Take("scope", sparse, r.scope, p.scope);
  take.Take("sink_tokens", sparse, r.sink_tokens, p.sink_tokens, kAny, "");
  take.Take("recent_tokens", sparse, r.recent_tokens, p.recent_tokens, kAny, "");
  take.Take("min_live_tokens", sparse, r.min_live_tokens, p.min_live_tokens, [](uint32_t v) { return v >= 1; }, "at least 1");
  take.Take("max_live_tokens", sparse, r.max_live_tokens, p.max_live_tokens, kAny, "");
}

// Rules over two fields name both.
void CheckTogether(GenerationMode mode, const ParameterOverrides& r, const MemoryParameters& p, Overrides& take) {
  if (p.strength_cap != 0 && p.strength_cap < p.initial_strength) {
    take.Add("strength_cap", "must be 0 (no cap) or at least initial_strength");
  }
  if (p.prompt_ticks > 0 && p.prompt_observation == base::PromptObservation::kLast) {
    take.Add("prompt_ticks", "above 0 needs prompt_observation window or all");
  }
  const bool window = p.prompt_observation == base::PromptObservation::kWindow;
  if (window && !r.prompt_window_tokens) take.Add("prompt_window_tokens", "must be set, at least 1, with prompt_observation window");
  if (!window && r.prompt_window_tokens) take.Add("prompt_window_tokens", "is used with prompt_observation window only");
  if (mode == GenerationMode::kSoftDelete && p.soft_floor > p.soft_ceiling) {
    take.Add("soft_floor", "must be at most soft_ceiling");
  }
  if (mode != GenerationMode::kSparseAttention || p.max_live_tokens == 0) return;
  uint64_t least = 1ull + p.sink_tokens + p.recent_tokens;
  for (const base::TokenRange& range : p.pinned) least += range.end - range.begin;
  if (p.max_live_tokens < least) {
    take.Add("max_live_tokens", absl::StrCat("must be 0 (no budget) or at least ", least, " = sink_tokens + recent_tokens + pinned + 1"));
  }
  if (p.max_live_tokens < p.min_live_tokens) take.Add("max_live_tokens", "must be 0 (no budget) or at least min_live_tokens");
}

void TakePinned(GenerationMode mode, const ParameterOverrides& r, MemoryParameters& p, Overrides& take) {
  if (r.pinned.empty()) return;
  if (!Uses(mode, UsedBy::kSparse)) {
    take.Add("pinned", absl::StrCat("is not used by ", std::string(base::Name(mode)), "; leave it out"));
    return;
  }
  for (size_t i = 0; i < r.pinned.size(); ++i) {
    if (r.pinned[i].begin < r.pinned[i].end) continue;
    take.Add(absl::StrCat("pinned[", i, "]").c_str(), "begin must be less than end");
    return;
  }
  p.pinned = r.pinned;
}

}  // namespace

std::string_view Name(Preset preset) {
  switch (preset) {
    case Preset::kOriginal: return "original";
    case Preset::kDefault: return "default";
    case Preset::kChat: return "chat";
    case Preset::kTight: return "tight";
  }
  return "unknown";
}

base::MemoryParameters PresetParameters(Preset preset) {
  MemoryParameters p;
  switch (preset) {
    case Preset::kDefault:
      break;
    case Preset::kOriginal:
      p.soft_form = base::SoftForm::kKvScale;
      p.sink_tokens = 0;
      p.recent_tokens = 0;
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

base::MemoryParameters Resolve(GenerationMode mode, Preset fallback, const std::optional<ParameterOverrides>& request,
                               base::Violations& violations) {
  if (mode == GenerationMode::kBaseline) {
    if (request) violations.Add("memory", "baseline keeps no memory; leave memory out or choose another generation_mode");
    return {};
  }
  const ParameterOverrides overrides = request.value_or(ParameterOverrides{});
  MemoryParameters p = PresetParameters(overrides.preset.value_or(fallback));
  Overrides take(mode, violations);
  TakeShared(take, overrides, p);
  TakeOwn(take, overrides, p);
  TakePinned(mode, overrides, p, take);
  CheckTogether(mode, overrides, p, take);
  return p;
}

}  // namespace ebbinghaus::memory
