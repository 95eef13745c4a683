// From what a client asked for to what the engine can run: a request that passed admission is another type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/base/clock.h"
#include "server/base/engine.h"
#include "server/base/violations.h"
#include "server/memory/parameters.h"
#include "server/scheduler/client.h"
#include "server/scheduler/prompt_reader.h"
#include "server/scheduler/request.h"
#include "server/text/text_model.h"

namespace ebbinghaus::scheduler {

// Tokenized, in range, every default resolved.
struct AdmittedRequest {
  std::string request_id;  // 1 to 128 printable ASCII characters
  std::shared_ptr<const base::SequenceSpec> spec;
  std::vector<std::string> stop;
  std::vector<base::TokenId> eos_token_ids;  // those that end this request as kEos; empty with ignore_eos
  bool return_forget_events = false;
  uint32_t memory_every_n_tokens = 0;
  std::optional<base::TimePoint> deadline;
  base::TimePoint arrival;
  Client client;
};

struct AdmissionOptions {
  base::GenerationMode default_mode = base::GenerationMode::kBaseline;
  memory::Preset default_preset = memory::Preset::kDefault;
  std::function<uint64_t()> random;  // seeds and request ids; thread safe; unset: the system's random device
};

inline constexpr uint32_t kDefaultMaxNewTokens = 100;
inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopBytes = 256;
inline constexpr size_t kMaxRequestIdBytes = 128;
inline constexpr uint32_t kMaxTopLogprobs = 20;

// Immutable; thread safe.
class Admission {
 public:
  Admission(AdmissionOptions options, base::ModelInfo model, std::shared_ptr<const text::TextModel> text);

  // The admitted request, or nothing if `violations` is not empty then. Adds every violation there is, each under its
  // proto field path with the range allowed; rules over two fields name both. No description repeats prompt, message
  // or stop string.
  std::optional<AdmittedRequest> Admit(GenerationRequest request, base::Violations& violations) const;

  // For a request without one. No two are the same.
  std::string NewId() const;

  base::GenerationMode ModeOf(const GenerationRequest& request) const {
    return request.generation_mode.value_or(options_.default_mode);
  }

 private:
  std::vector<base::TokenId> ReadInput(const GenerationRequest& request, base::Violations& violations) const;
  void ResolveLengths(const GenerationRequest& request, base::SequenceSpec& spec, base::Violations& violations) const;
  base::SamplingParameters ResolveSampling(const SamplingRequest& request, base::Violations& violations) const;
  void ResolveReturns(const GenerationRequest& request, base::SequenceSpec& spec, base::Violations& violations) const;
  void ResolveEnds(GenerationRequest& request, AdmittedRequest& admitted, base::SequenceSpec& spec,
                   base::Violations& violations) const;
  std::string ResolveId(const std::string& request_id, base::Violations& violations) const;

  const AdmissionOptions options_;
  const base::ModelInfo model_;
  const std::shared_ptr<const text::TextModel> text_;
  const PromptReader reader_;
};

}  // namespace ebbinghaus::scheduler
