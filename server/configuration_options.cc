#include "server/configuration_options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "server/base/status_macros.h"

namespace ebbinghaus {
namespace {

absl::Status Expected(absl::string_view what, absl::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat("expected ", what, ", got '", got, "'"));
}

Option BoolOption(std::string name, std::string help, bool Configuration::*field, bool is_switch) {
  auto set = [field](Configuration& c, absl::string_view text) {
    EBB_ASSIGN_OR_RETURN(c.*field, ParseBool(text));
    return absl::OkStatus();
  };
  auto get = [field](const Configuration& c) { return std::string(c.*field ? "on" : "off"); };
  return {std::move(name), "on|off", std::move(help), set, get, is_switch};
}

Option ChoiceOption(std::string name, std::string help, std::vector<std::string> choices,
                    std::string Configuration::*field) {
  std::string all = absl::StrJoin(choices, "|");
  auto set = [field, choices, all](Configuration& c, absl::string_view text) {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) return Expected(all, text);
    c.*field = std::string(text);
    return absl::OkStatus();
  };
  return {std::move(name), all, std::move(help), set, [field](const Configuration& c) { return c.*field; }};
}

// `zero` is the word for 0 ("auto"), or empty when 0 is not allowed; `minimum` applies to numbers.
Option CountOption(std::string name, std::string help, uint32_t Configuration::*field, uint32_t minimum,
                   uint32_t maximum, std::string zero = "") {
  auto set = [=](Configuration& c, absl::string_view text) {
    uint32_t value = 0;
    if (!zero.empty() && text == zero) {
      c.*field = 0;
      return absl::OkStatus();
    }
    if (!absl::SimpleAtoi(text, &value) || value < minimum || value > maximum) {
      return Expected(absl::StrCat("an integer in [", minimum, ", ", maximum, "]",
                                   zero.empty() ? "" : absl::StrCat(" or ", zero)),
                      text);
    }
    c.*field = value;
    return absl::OkStatus();
  };
  auto get = [=](const Configuration& c) {
    return c.*field == 0 && !zero.empty() ? zero : absl::StrCat(c.*field);
  };
  return {std::move(name), zero.empty() ? "N" : absl::StrCat("N|", zero), std::move(help), set, get};
}

Option AddressOption(std::string name, std::string help, HostPort Configuration::*field) {
  auto set = [field](Configuration& c, absl::string_view text) {
    EBB_ASSIGN_OR_RETURN(c.*field, ParseHostPort(text));
    return absl::OkStatus();
  };
  return {std::move(name), "HOST:PORT", std::move(help), set,
          [field](const Configuration& c) { return ToString(c.*field); }};
}

// One of `all`, by its Name().
template <typename T>
Option NamedOption(std::string name, std::string help, std::vector<std::pair<std::string, T>> all,
                   T Configuration::*field) {
  std::vector<std::string> names;
  for (const auto& entry : all) names.push_back(entry.first);
  std::string choices = absl::StrJoin(names, "|");
  auto set = [=](Configuration& c, absl::string_view text) {
    for (const auto& [known, value] : all) {
      if (known != text) continue;
      c.*field = value;
      return absl::OkStatus();
    }
    return Expected(choices, text);
  };
  auto get = [=](const Configuration& c) {
    for (const auto& [known, value] : all) {
      if (value == c.*field) return known;
    }
    return std::string();
  };
  return {std::move(name), choices, std::move(help), set, get};
}

Option ModelOption() {
  auto set = [](Configuration& c, absl::string_view text) {
    if (text.empty()) return Expected("a path", text);
    c.model = std::string(text);
    return absl::OkStatus();
  };
  return {"model", "PATH", "a Hugging Face folder or a .gguf file; required to serve", set,
          [](const Configuration& c) { return c.model; }};
}

Option FileOption(std::string name, std::string help, std::string Configuration::*field) {
  auto set = [field](Configuration& c, absl::string_view text) {
    // As a value that got lost on the way would leave a door open, an empty one is no way to say "none".
    if (text.empty()) return Expected("a file", text);
    c.*field = std::string(text);
    return absl::OkStatus();
  };
  return {std::move(name), "FILE", std::move(help), set, [field](const Configuration& c) { return c.*field; }};
}

Option DeviceOption() {
  auto set = [](Configuration& c, absl::string_view text) {
    uint32_t index = 0;
    absl::string_view number = text;
    bool cuda = absl::StartsWith(text, "cuda:");
    if (cuda) number.remove_prefix(5);
    bool digits = !number.empty() && std::all_of(number.begin(), number.end(), absl::ascii_isdigit);
    if (text != "auto" && text != "cpu" && !(cuda && digits && absl::SimpleAtoi(number, &index))) {
      return Expected("auto, cpu or cuda:N", text);
    }
    c.device = std::string(text);
    return absl::OkStatus();
  };
  return {"device", "auto|cpu|cuda:N", "where weights and K/V live", set,
          [](const Configuration& c) { return c.device; }};
}

Option KvMemoryOption() {
  auto set = [](Configuration& c, absl::string_view text) {
    if (text == "auto") {
      c.kv_memory_bytes = 0;
      return absl::OkStatus();
    }
    EBB_ASSIGN_OR_RETURN(uint64_t bytes, ParseBytes(text));
    if (bytes < (1u << 20)) return Expected("at least 1MiB, or auto", text);
    c.kv_memory_bytes = bytes;
    return absl::OkStatus();
  };
  auto get = [](const Configuration& c) {
    return c.kv_memory_bytes == 0 ? std::string("auto") : absl::StrCat(c.kv_memory_bytes);
  };
  return {"kv-memory", "SIZE|auto",
          "memory for K/V of all requests, such as 8GiB or 512MiB; auto: what weights and workspace leave of 80 % of the "
          "machine's memory or of the cgroup's limit",
          set,
          get};
}

std::string FormatDuration(base::Duration d) {
  const int64_t ns = std::chrono::nanoseconds(d).count();
  if (ns % 1'000'000'000 == 0) return absl::StrCat(ns / 1'000'000'000, "s");
  if (ns % 1'000'000 == 0) return absl::StrCat(ns / 1'000'000, "ms");
  return absl::StrFormat("%d.%06dms", ns / 1'000'000, ns % 1'000'000);
}

Option DurationOption(std::string name, std::string help, base::Duration Configuration::*field) {
  auto set = [field](Configuration& c, absl::string_view text) {
    EBB_ASSIGN_OR_RETURN(c.*field, ParseDuration(text));
    return absl::OkStatus();
  };
  return {std::move(name), "DURATION", std::move(help), set,
          [field](const Configuration& c) { return FormatDuration(c.*field); }};
}

// --- The table ------------------------------------------------------------------------------------------------

std::vector<Option> MakeOptions() {
  using C = Configuration;
  constexpr uint32_t kMax = 1u << 30;
  std::vector<std::pair<std::string, base::GenerationMode>> modes;
  for (base::GenerationMode mode : base::kAllModes) modes.emplace_back(base::Name(mode), mode);
  std::vector<std::pair<std::string, memory::Preset>> presets;
  for (memory::Preset preset : {memory::Preset::kOriginal, memory::Preset::kDefault, memory::Preset::kChat,
                                memory::Preset::kTight}) {
    presets.emplace_back(memory::Name(preset), preset);
  }
  return {
      ModelOption(),
      AddressOption("listen", "where gRPC listens; port 0 picks a free one", &C::listen),
      AddressOption("http-listen", "where /metrics, /healthz and /readyz listen; port 0 picks a free one",
                    &C::http_listen),
      ChoiceOption("weights",
                   "form of the weights in memory: int8 has one scale per row, int4 one per 32; auto keeps the file's "
                   "(Q8_0, Q4_0, Q4_1 without loss), the rest as bf16",
                   {"auto", "f32", "bf16", "int8", "int4"}, &C::weights),
      ChoiceOption("kv", "form of K/V in memory; auto: bf16, but f32 beside f32 weights", {"auto", "f32", "bf16", "int8"}, &C::kv),
      DeviceOption(),
      ChoiceOption("engine", "which engine computes; auto: packed, our own kernels, on the CPU, reference elsewhere",
                   {"auto", "packed", "reference"}, &C::engine),
      ChoiceOption("kernels", "instructions the packed engine uses; auto: the best the processor has",
                   {"auto", "portable", "avx2", "avx512"}, &C::kernels),
      BoolOption("deterministic",
                 "results do not depend on what else runs: costs nothing with the packed engine, which always computes so; "
                 "refuses to start with another",
                 &C::deterministic, /*is_switch=*/true),
      CountOption("threads", "compute threads; auto: as many as CPU quota and affinity allow", &C::threads, 1, 1024,
                  "auto"),
      KvMemoryOption(),
      BoolOption("prefix-cache", "keep K/V of prompts, in memory that no request needs, for those that begin alike",
                 &C::prefix_cache, /*is_switch=*/false),
      CountOption("max-batch", "requests computed at the same time", &C::max_batch, 1, 4096),
      CountOption("max-queue", "requests that may wait; one more is refused", &C::max_queue, 1, 65536),
      CountOption("max-queue-tokens", "prompt tokens that may wait", &C::max_queue_tokens, 1, kMax),
      CountOption("max-context", "longest prompt and output together; auto: what the model was trained for",
                  &C::max_context, 16, kMax, "auto"),
      NamedOption("default-mode", "mode of requests that name none", modes, &C::default_mode),
      NamedOption("default-preset", "memory preset of requests that name none", presets, &C::default_preset),
      DurationOption("drain-propagation",
                     "how long calls are still taken after SIGTERM, while health already says not to come: as long as load "
                     "balancers take to notice",
                     &C::drain_propagation),
      DurationOption("drain-timeout", "how long requests underway may go on after SIGTERM, such as 30s or 500ms",
                     &C::drain_timeout),
      DurationOption("slow-reader-timeout", "a stream whose client reads nothing for this long is cancelled; 0: never",
                     &C::slow_reader_timeout),
      DurationOption("watchdog-timeout",
                     "when one step takes longer than this, health and /healthz say that the server is stuck; 0: never",
                     &C::watchdog_timeout),
      BoolOption("reflection", "gRPC server reflection", &C::reflection, false),
      NamedOption<LogFormat>("log-format", "how log lines look", {{"text", LogFormat::kText}, {"json", LogFormat::kJson}},
                             &C::log_format),
      ChoiceOption("log-level", "least severe level that is logged", {"debug", "info", "warning", "error"},
                   &C::log_level),
      BoolOption("log-prompts", "log prompts and answers too (they may be private)", &C::log_prompts, true),
      FileOption("tls-cert", "PEM certificate chain of the gRPC listener, with --tls-key; read again when it changes",
                 &C::tls_cert),
      FileOption("tls-key", "PEM private key of --tls-cert, without a passphrase", &C::tls_key),
      FileOption("tls-client-ca", "PEM certificates of the authorities whose clients are let in; others are refused",
                 &C::tls_client_ca),
      FileOption("auth-token-file",
                 "lines of `NAME SECRET`; calls then need metadata `authorization: Bearer SECRET`; read again when it "
                 "changes",
                 &C::auth_token_file),
      BoolOption("allow-insecure-auth", "take tokens without TLS from other machines too, where they can be overheard",
                 &C::allow_insecure_auth, true),
  };
}

}  // namespace

absl::StatusOr<bool> ParseBool(absl::string_view text) {
  if (text == "on" || text == "true") return true;
  if (text == "off" || text == "false") return false;
  return Expected("on or off", text);
}

const std::vector<Option>& Options() {
  static const auto* const options = new std::vector<Option>(MakeOptions());
  return *options;
}

const Option* FindOption(absl::string_view name) {
  for (const Option& option : Options()) {
    if (option.name == name) return &option;
  }
  return nullptr;
}

}  // namespace ebbinghaus
