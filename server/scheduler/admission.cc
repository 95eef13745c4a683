#include "server/scheduler/admission.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/base/range.h"
#include "server/text/unicode.h"

namespace ebbinghaus::scheduler {
namespace {

using base::SequenceSpec;
using base::TokenId;
using base::Violations;

uint64_t SystemRandom() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

// The value or its default.
double Real(const char* field, const std::optional<double>& value, double fallback, const base::Range& range,
            Violations& violations) {
  if (!value) return fallback;
  if (range.Has(*value)) return *value;
  violations.Add(field, absl::StrCat("must be in ", range.low_open ? "(" : "[", range.low, ", ", range.high, "]",
                                     range.Remark(*value), ", is ", *value));
  return fallback;
}

// One violation for a whole list of ids: where the first bad one stands and how many there are. Never the ids
// themselves, which are the prompt.
void CheckIds(const std::string& field, const std::vector<TokenId>& ids, uint32_t vocabulary, Violations& violations) {
  size_t bad = 0, first = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= vocabulary && bad++ == 0) first = i;
  }
  if (bad == 0) return;
  violations.Add(field, absl::StrCat("token ids must be in [0, ", vocabulary - 1, "]; the one at index ", first,
                                     " is not", bad > 1 ? absl::StrCat(", nor are ", bad - 1, " more") : ""));
}

const char* InputField(const GenerationRequest& request) {
  if (std::holds_alternative<TextInput>(request.input)) return "text";
  if (std::holds_alternative<TokenInput>(request.input)) return "token_ids.ids";
  if (std::holds_alternative<ChatInput>(request.input)) return "chat.messages";
  return "input";
}

template <typename T>
void SortUnique(std::vector<T>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

}  // namespace

Admission::Admission(AdmissionOptions options, base::ModelInfo model, std::shared_ptr<const text::TextModel> text)
    : options_([&] {
        if (!options.random) options.random = SystemRandom;
        return std::move(options);
      }()),
      model_(std::move(model)),
      text_(std::move(text)),
      reader_(text_, model_.context_tokens) {}

std::optional<AdmittedRequest> Admission::Admit(GenerationRequest request, Violations& violations) const {
  SequenceSpec spec;
  AdmittedRequest admitted;
  spec.mode = ModeOf(request);
  spec.prompt = ReadInput(request, violations);
  ResolveLengths(request, spec, violations);
  spec.sampling = ResolveSampling(request.sampling, violations);
  ResolveEnds(request, admitted, spec, violations);
  ResolveReturns(request, spec, violations);
  spec.memory = memory::Resolve(spec.mode, options_.default_preset, request.memory, violations);
  const uint64_t last_tick =
      static_cast<uint64_t>(spec.prompt.size()) * spec.memory.prompt_ticks + spec.max_new_tokens;
  if (last_tick > static_cast<uint64_t>(std::numeric_limits<base::Tick>::max())) {
    violations.Add("memory.prompt_ticks",
                   absl::StrCat("prompt_ticks times the prompt's tokens (", InputField(request), ", ",
                                spec.prompt.size(), ") plus max_new_tokens must be at most ",
                                std::numeric_limits<base::Tick>::max()));
  }
  admitted.request_id = ResolveId(request.request_id, violations);
  if (!violations.empty()) return std::nullopt;
  admitted.return_forget_events = request.return_forget_events;
  admitted.memory_every_n_tokens = request.memory_every_n_tokens;
  admitted.deadline = request.deadline;
  admitted.arrival = request.arrival;
  admitted.client = ClientOf(request.identity, request.peer);
  spec.cache_owner = std::move(request.identity);
  admitted.spec = std::make_shared<const SequenceSpec>(std::move(spec));
  return admitted;
}

// The prompt; empty after a violation.
std::vector<TokenId> Admission::ReadInput(const GenerationRequest& request, Violations& violations) const {
  std::vector<TokenId> prompt;
  const size_t violations_before = violations.count();
  if (const auto* text = std::get_if<TextInput>(&request.input)) {
    prompt = reader_.ReadText(*text, request.parse_special, violations, request.abandoned);
    if (prompt.empty() && violations.count() == violations_before) violations.Add("text", "must not be empty");
  } else if (const auto* chat = std::get_if<ChatInput>(&request.input)) {
    prompt = reader_.ReadChat(*chat, request.parse_special, violations, request.abandoned);
  } else if (const auto* ids = std::get_if<TokenInput>(&request.input)) {
    prompt = *ids;
    CheckIds("token_ids.ids", prompt, model_.vocabulary_size, violations);
    if (prompt.empty()) violations.Add("token_ids.ids", "must hold at least one id");
  } else {
    violations.Add("input", "one of text, token_ids and chat must be set");
  }
  if (prompt.size() >= model_.context_tokens) {
    violations.Add(InputField(request),
                   absl::StrCat("the prompt has ", prompt.size(), " tokens; the input must have at most ",
                                model_.context_tokens - 1, ", one less than the context"));
  }
  if (violations.count() > violations_before) return {};
  return prompt;
}

// An empty prompt has been reported; then any prompt that would fit is assumed.
void Admission::ResolveLengths(const GenerationRequest& request, SequenceSpec& spec, Violations& violations) const {
  const uint32_t prompt = std::max<uint32_t>(1, static_cast<uint32_t>(spec.prompt.size()));
  const uint32_t left = std::max(model_.context_tokens, prompt + 1) - prompt;
  spec.max_new_tokens = std::min(kDefaultMaxNewTokens, left);
  if (request.max_new_tokens) {
    if (*request.max_new_tokens >= 1 && *request.max_new_tokens <= left) {
      spec.max_new_tokens = *request.max_new_tokens;
    } else {
      violations.Add("max_new_tokens", absl::StrCat("must be in [1, ", left, "], is ", *request.max_new_tokens,
                                                    "; the context of ", model_.context_tokens,
                                                    " tokens holds it together with ", InputField(request)));
    }
  }
  spec.min_new_tokens = request.min_new_tokens.value_or(0);
  if (spec.min_new_tokens > spec.max_new_tokens) {
    violations.Add("min_new_tokens", absl::StrCat("must be in [0, max_new_tokens], is ", spec.min_new_tokens,
                                                  "; max_new_tokens is ", spec.max_new_tokens));
  }
}

base::SamplingParameters Admission::ResolveSampling(const SamplingRequest& request, Violations& violations) const {
  base::SamplingParameters p;  // the defaults
  p.temperature = Real("sampling.temperature", request.temperature, p.temperature, {0, 2}, violations);
  p.top_p = Real("sampling.top_p", request.top_p, p.top_p, {0, 1, true}, violations);
  p.min_p = Real("sampling.min_p", request.min_p, p.min_p, {0, 1}, violations);
  p.repetition_penalty = Real("sampling.repetition_penalty", request.repetition_penalty, p.repetition_penalty,
                              {0, 10, true}, violations);
  p.presence_penalty =
      Real("sampling.presence_penalty", request.presence_penalty, p.presence_penalty, {-2, 2}, violations);
  p.frequency_penalty =
      Real("sampling.frequency_penalty", request.frequency_penalty, p.frequency_penalty, {-2, 2}, violations);
  p.top_k = request.top_k.value_or(p.top_k);
  if (p.top_k > model_.vocabulary_size) {
    violations.Add("sampling.top_k", absl::StrCat("must be in [0, ", model_.vocabulary_size, "] (0 = off), is ", p.top_k));
  }
  p.seed = request.seed ? *request.seed : options_.random();
  std::vector<TokenId> ids;
  size_t bad_biases = 0;
  for (const auto& [id, bias] : request.logit_bias) {
    ids.push_back(id);
    if (!(bias >= -100 && bias <= 100)) ++bad_biases;
  }
  CheckIds("sampling.logit_bias", ids, model_.vocabulary_size, violations);
  if (bad_biases > 0) {
    violations.Add("sampling.logit_bias", absl::StrCat("values must be in [-100, 100]; ", bad_biases, " are not"));
  }
  p.logit_bias = request.logit_bias;
  return p;
}

void Admission::ResolveEnds(GenerationRequest& request, AdmittedRequest& admitted, SequenceSpec& spec,
                            Violations& violations) const {
  if (request.stop.size() > kMaxStopStrings) {
    violations.Add("stop", absl::StrCat("at most ", kMaxStopStrings, " strings, are ", request.stop.size()));
  }
  for (size_t i = 0; i < request.stop.size(); ++i) {
    const std::string& stop = request.stop[i];
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      violations.Add(absl::StrCat("stop[", i, "]"),
                     absl::StrCat("must have 1 to ", kMaxStopBytes, " bytes, has ", stop.size()));
    } else if (!text::IsValidUtf8(stop)) {
      violations.Add(absl::StrCat("stop[", i, "]"), "must be valid UTF-8");
    }
  }
  CheckIds("stop_token_ids", request.stop_token_ids, model_.vocabulary_size, violations);
  if (!request.ignore_eos) admitted.eos_token_ids = text_->eos_token_ids;
  spec.end_token_ids = request.stop_token_ids;
  spec.end_token_ids.insert(spec.end_token_ids.end(), admitted.eos_token_ids.begin(), admitted.eos_token_ids.end());
  SortUnique(spec.end_token_ids);
  const auto known = std::lower_bound(spec.end_token_ids.begin(), spec.end_token_ids.end(), model_.vocabulary_size);
  if (spec.min_new_tokens > 0 && known - spec.end_token_ids.begin() == model_.vocabulary_size) {
    violations.Add("stop_token_ids", absl::StrCat("must leave an id that may come before min_new_tokens (",
                                                  spec.min_new_tokens, ") is reached; all ", model_.vocabulary_size,
                                                  " of the vocabulary end the text"));
  }
  admitted.stop = std::move(request.stop);
}

void Admission::ResolveReturns(const GenerationRequest& request, SequenceSpec& spec, Violations& violations) const {
  spec.return_logprobs = request.return_logprobs;
  spec.top_logprobs = request.top_logprobs.value_or(0);
  if (spec.top_logprobs > kMaxTopLogprobs) {
    violations.Add("top_logprobs", absl::StrCat("must be in [0, ", kMaxTopLogprobs, "], is ", spec.top_logprobs));
  }
  if (spec.top_logprobs > 0 && !spec.return_logprobs) {
    violations.Add("top_logprobs", "above 0 needs return_logprobs");
  }
  spec.top_logprobs = std::min(spec.top_logprobs, model_.vocabulary_size);
  spec.return_token_weights = request.return_token_weights;
  if (request.attention && !request.return_attention_weights) {
    violations.Add("attention", "needs return_attention_weights");
  }
  if (!request.return_attention_weights && !request.attention) return;
  base::AttentionRequest attention = request.attention.value_or(base::AttentionRequest{});
  if (attention.every_n_tokens == 0) violations.Add("attention.every_n_tokens", "must be at least 1");
  SortUnique(attention.layers);
  if (!attention.layers.empty() && attention.layers.back() >= model_.layers) {
    violations.Add("attention.layers", absl::StrCat("must be in [0, ", model_.layers - 1, "], the largest is ",
                                                    attention.layers.back()));
  }
  if (request.return_attention_weights) spec.attention = std::move(attention);
}

std::string Admission::NewId() const {
  return absl::StrFormat("req-%016x%016x", options_.random(), options_.random());
}

std::string Admission::ResolveId(const std::string& request_id, Violations& violations) const {
  if (request_id.empty()) return NewId();
  const bool printable =
      std::all_of(request_id.begin(), request_id.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
  if (request_id.size() > kMaxRequestIdBytes || !printable) {
    violations.Add("request_id", absl::StrCat("must have 1 to ", kMaxRequestIdBytes, " printable ASCII characters"));
  }
  return request_id;
}

}  // namespace ebbinghaus::scheduler
