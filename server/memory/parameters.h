// Presets, overrides and validation of the memory parameters (memory-spec 4.6 and 5).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "server/base/generation.h"
#include "server/base/violations.h"

namespace ebbinghaus::memory {

enum class Preset { kOriginal, kDefault, kChat, kTight };
inline constexpr Preset kAllPresets[] = {Preset::kOriginal, Preset::kDefault, Preset::kChat,
                                         Preset::kTight};
std::string_view Name(Preset preset);  // "original", "default", "chat", "tight"

base::MemoryParameters PresetParameters(Preset preset);

// With prompts of up to 2^21 tokens the clock then stays within base::Tick (spec 2.2).
inline constexpr uint32_t kMaxPromptTicks = 1000;

// How many ranges memory.pinned may have.
inline constexpr size_t kMaxPinnedRanges = 1024;

// What a request sets beside its preset; names as in memory-spec section 5.
struct ParameterOverrides {
  std::optional<Preset> preset;
  std::optional<double> initial_strength, time_step, reset_threshold, forget_threshold, vote_ratio,
      soft_floor, soft_ceiling, soft_layer_ratio, strength_cap;
  std::optional<uint32_t> sink_tokens, recent_tokens, min_live_tokens, max_live_tokens,
      observe_interval, prompt_ticks, prompt_window_tokens;
  std::optional<base::VoteLayers> vote_layers;
  std::optional<base::ForgetScope> scope;
  std::optional<base::SoftForm> soft_form;
  std::optional<base::PromptObservation> prompt_observation;
  std::vector<base::TokenRange> pinned;

  bool operator==(const ParameterOverrides&) const = default;
};

// The parameters in force for a mode: the preset (the request's, else `fallback`) with the
// overrides applied. Adds to `violations`, under the path `memory.<field>`, every value out of
// range, every explicit field that the mode does not use and every broken rule over two fields
// (naming both), and for baseline any memory parameter at all (field "memory"). What it returns
// then is not to be used.
base::MemoryParameters Resolve(base::GenerationMode mode, Preset fallback,
                               const std::optional<ParameterOverrides>& request,
                               base::Violations& violations);

}  // namespace ebbinghaus::memory
