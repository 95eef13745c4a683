// What the server is told at start: one table of options drives the flags, the environment variables, the
// configuration file, --help and --print-config (docs/operations of each option: --help).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/base/clock.h"
#include "server/base/generation.h"
#include "server/memory/parameters.h"

namespace ebbinghaus {

// "HOST:PORT"; an IPv6 host keeps its brackets: "[::1]:50051". Port 0 = any free port.
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
std::string ToString(const HostPort& address);
// Whether nobody but this machine can reach the address: localhost, 127.0.0.0/8, ::1.
bool IsLoopback(const HostPort& address);

enum class LogFormat { kText, kJson };

// Every option's effective value. The initial values are the defaults.
struct Configuration {
  std::string model;
  HostPort listen{"127.0.0.1", 50051};
  HostPort http_listen{"127.0.0.1", 9464};
  std::string weights = "auto";  // auto, f32, bf16, int8, int4
  std::string kv = "auto";       // auto, f32, bf16, int8
  std::string device = "auto";   // auto, cpu, cuda:N
  std::string engine = "auto";   // auto, packed, reference
  std::string kernels = "auto";  // auto, portable, avx2, avx512
  bool deterministic = false;
  uint32_t threads = 0;          // 0 = as many as the CPU quota and affinity allow
  uint64_t kv_memory_bytes = 0;  // 0 = what weights and workspace leave of 80 % of the machine's memory or cgroup's limit
  bool prefix_cache = true;
  uint32_t max_batch = 16;
  uint32_t max_queue = 64;
  uint32_t max_queue_tokens = 1u << 20;
  uint32_t max_context = 0;  // 0 = the model's
  base::GenerationMode default_mode = base::GenerationMode::kBaseline;
  memory::Preset default_preset = memory::Preset::kDefault;
  base::Duration drain_propagation{};
  base::Duration drain_timeout = std::chrono::seconds(30);
  base::Duration slow_reader_timeout = std::chrono::seconds(30);
  base::Duration watchdog_timeout = std::chrono::seconds(60);
  bool reflection = true;
  LogFormat log_format = LogFormat::kText;
  std::string log_level = "info";  // debug, info, warning, error
  bool log_prompts = false;
  std::string tls_cert, tls_key, tls_client_ca;  // PEM files; cert and key: both or none; client_ca only with them
  std::string auth_token_file;                   // empty: no tokens are asked for
  bool allow_insecure_auth = false;              // tokens over plaintext, from elsewhere than this machine
};

// What the command line asks for besides serving.
enum class Action { kServe, kHelp, kVersion, kPrintConfig, kCheckConfig };

struct ParsedConfiguration {
  Action action = Action::kServe;
  Configuration values;
  std::map<std::string, std::string> sources;  // option name -> "default", "file", "environment" or "flag"
  std::vector<std::string> warnings;
};

// Where options may come from; a test hands in its own.
struct ConfigurationInput {
  std::vector<std::string> arguments;              // without the program's name
  std::map<std::string, std::string> environment;  // all of it; only EBBINGHAUS_* is looked at
};

// Reads flags, then environment, then the file named by --config: a flag beats the environment, which beats the
// file. Unknown flags and file keys are errors. EBBINGHAUS_* variables that name no option are one warning, save those that
// Kubernetes makes for Services (EBBINGHAUS_SERVICE_HOST, EBBINGHAUS_PORT_50051_TCP), which are passed over in silence.
// Errors: InvalidArgument whose message has one line per problem, all of them at once.
absl::StatusOr<ParsedConfiguration> ParseConfiguration(const ConfigurationInput& input);

std::string HelpText();
// One line `name = value  # source` per option: a file that --config can read.
std::string PrintConfiguration(const ParsedConfiguration& parsed);

// "500ms", "30s", "2m", "1h", "0". Errors: InvalidArgument that says what is accepted.
absl::StatusOr<base::Duration> ParseDuration(absl::string_view text);
// "1048576", "512MiB", "8GiB", "8GB" (powers of 1000), "64KiB". Errors: InvalidArgument.
absl::StatusOr<uint64_t> ParseBytes(absl::string_view text);
// Errors: InvalidArgument without a host or with a port outside [0, 65535].
absl::StatusOr<HostPort> ParseHostPort(absl::string_view text);

}  // namespace ebbinghaus
