// What a client asked for, before admission, in plain C++: rpc fills it from the proto, Admit() checks it.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "server/base/clock.h"
#include "server/base/generation.h"
#include "server/memory/parameters.h"
#include "server/text/chat_template.h"

namespace ebbinghaus::scheduler {

using TextInput = std::string;
using TokenInput = std::vector<base::TokenId>;
using ChatInput = text::Chat;

struct SamplingRequest {
  std::optional<double> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<uint32_t> top_k;
  std::optional<uint64_t> seed;
  std::vector<std::pair<base::TokenId, double>> logit_bias;
};

// Field names are those of ebbinghaus.v1.GenerateRequest; an unset optional takes the server's default.
struct GenerationRequest {
  std::variant<std::monostate, TextInput, TokenInput, ChatInput> input;
  std::optional<base::GenerationMode> generation_mode;
  SamplingRequest sampling;
  std::optional<uint32_t> max_new_tokens, min_new_tokens;
  std::vector<std::string> stop;
  std::vector<base::TokenId> stop_token_ids;
  bool ignore_eos = false;
  bool parse_special = false;
  bool return_attention_weights = false;
  std::optional<base::AttentionRequest> attention;
  bool return_token_weights = false;
  bool return_forget_events = false;
  uint32_t memory_every_n_tokens = 0;
  std::optional<memory::ParameterOverrides> memory;
  bool return_logprobs = false;
  std::optional<uint32_t> top_logprobs;
  std::string request_id;                        // empty = made up by the scheduler
  std::optional<base::TimePoint> deadline;       // of the call
  base::TimePoint arrival;                       // of the call, for time to first token
  std::string identity;                          // the name that goes with the client's token; empty without one
  std::function<bool()> abandoned;               // whether nobody waits for the answer any more; may be unset
  std::string peer;                              // the client's address and port, as gRPC writes them
};

}  // namespace ebbinghaus::scheduler
