// The command line of `ebbinghaus`. Only its shape is checked here; ranges are the server's to
// judge, so that there is one place that knows them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "ebbinghaus/v1/inference.pb.h"

namespace ebbinghaus::client {

enum class Command { kGenerate, kCompare, kBench, kTokenize, kInfo, kHealth };

inline constexpr uint32_t kBenchTokens = 128;  // of bench's prompts and answers, unless said otherwise

struct Options {
  Command command = Command::kGenerate;
  std::string target = "127.0.0.1:50051";
  std::optional<absl::Duration> timeout;  // of each RPC, positive

  std::optional<std::string> tls_ca;                 // unset: plaintext, and the next three are too
  std::optional<std::string> tls_cert, tls_key;      // both or none
  std::optional<std::string> tls_server_name;
  std::optional<std::string> token_file;
  bool allow_insecure_auth = false;

  std::optional<std::string> affinity;  // fit to be metadata: 1 to 256 printable ASCII, no spaces
  std::optional<std::string> prompt;       // at most one of these two; neither: standard input
  std::optional<std::string> prompt_file;  // "-" is standard input
  bool raw = false;                        // the prompt as it is, without a chat template
  std::optional<std::string> system;       // never together with raw

  std::optional<v1::GenerationMode> mode;
  v1::MemoryParameters memory;  // holds the preset too
  v1::SamplingParameters sampling;
  std::optional<uint32_t> max_tokens;
  std::optional<bool> ignore_eos;

  uint32_t repeat = 1;        // compare: measured runs per mode, at least 1
  uint32_t tight_tokens = 0;  // compare: length of the row with preset `tight`; 0 = no such row

  // bench
  uint32_t clients = 16;                   // at least 1
  uint32_t connections = 0;                // 0: one for each client
  uint32_t requests = 0;                   // answers per client; 0: until the duration is over
  std::optional<absl::Duration> duration;  // set if requests is 0
  uint32_t prompt_tokens = kBenchTokens;   // at least 1
  std::vector<v1::GenerationMode> modes;   // in turn; empty: `mode`
  std::optional<std::string> trace;        // file for a line of JSON per call

  bool json = false;
  bool verbose = false;
};

struct CommandLine {
  enum class Action { kRun, kHelp, kVersion };
  Action action = Action::kRun;
  Options options;        // set for kRun
  std::string help_text;  // set for kHelp
};

// Parses what follows the program's name. Flags are `--name value` or `--name=value`; switches are
// `--name` or
// `--name=on|off`. Errors: InvalidArgument with a message for the user, naming what there is
// instead.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments);

}  // namespace ebbinghaus::client
