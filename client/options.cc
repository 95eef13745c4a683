#include "client/options.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "client/memory_flag.h"

namespace ebbinghaus::client {
namespace {

constexpr unsigned Bit(Command command) { return 1u << static_cast<unsigned>(command); }
constexpr unsigned kEverywhere = ~0u;
constexpr unsigned kAnswering = Bit(Command::kGenerate) | Bit(Command::kCompare);
constexpr unsigned kGenerating = kAnswering | Bit(Command::kBench);
constexpr unsigned kPrompted = kAnswering | Bit(Command::kTokenize);
constexpr absl::Duration kBenchDuration = absl::Seconds(30);

struct CommandEntry {
  Command command;
  absl::string_view name;
  absl::string_view help;
};

constexpr CommandEntry kCommands[] = {
    {Command::kGenerate, "generate", "stream one answer to the terminal"},
    {Command::kCompare, "compare", "run every mode on one prompt and print a table"},
    {Command::kBench, "bench", "load the server with many clients and say what they get"},
    {Command::kTokenize, "tokenize", "show the tokens of a prompt as the model reads them"},
    {Command::kInfo, "info", "show the server's model and state"},
    {Command::kHealth, "health", "ask whether the server is serving; exit code 0 if so"},
};

using Setter = std::function<absl::Status(Options&, absl::string_view)>;

struct Flag {
  std::string name;
  std::string value;  // what it takes, for the help; empty: a switch
  unsigned commands;  // those that have it
  std::string help;
  Setter set;
};

absl::Status Expected(absl::string_view what, absl::string_view got) {
  return absl::InvalidArgumentError(absl::StrCat("takes ", what, ", got '", got, "'"));
}

absl::StatusOr<bool> ParseSwitch(absl::string_view text) {
  if (text == "on" || text == "true") return true;
  if (text == "off" || text == "false") return false;
  return Expected("on or off", text);
}

Setter Text(std::optional<std::string> Options::*field) {
  return [field](Options& o, absl::string_view text) {
    o.*field = std::string(text);
    return absl::OkStatus();
  };
}

// T: bool or std::optional<bool>.
template <typename T>
Setter Switch(T Options::*field) {
  return [field](Options& o, absl::string_view text) {
    absl::StatusOr<bool> on = ParseSwitch(text);
    if (on.ok()) o.*field = *on;
    return on.status();
  };
}

// `set` stores the number wherever it belongs.
Setter Real(std::function<void(Options&, double)> set) {
  return [set = std::move(set)](Options& o, absl::string_view text) {
    double number = 0;
    if (!absl::SimpleAtod(text, &number)) return Expected("a number", text);
    set(o, number);
    return absl::OkStatus();
  };
}

Setter Count(uint32_t minimum, std::function<void(Options&, uint32_t)> set) {
  return [minimum, set = std::move(set)](Options& o, absl::string_view text) {
    uint32_t number = 0;
    if (!absl::SimpleAtoi(text, &number) || number < minimum) {
      return Expected(absl::StrCat("a whole number from ", minimum), text);
    }
    set(o, number);
    return absl::OkStatus();
  };
}

absl::Status SetTarget(Options& o, absl::string_view text) {
  if (text.empty()) return Expected("HOST:PORT", text);
  o.target = std::string(text);
  return absl::OkStatus();
}

// gRPC ends the program when metadata holds anything else.
absl::Status SetAffinity(Options& o, absl::string_view text) {
  const bool fits =
      std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (text.empty() || text.size() > 256 || !fits) {
    return Expected("1 to 256 printable ASCII characters without spaces", absl::CHexEscape(text));
  }
  o.affinity = std::string(text);
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> ParseTime(absl::string_view text) {
  absl::Duration timeout;
  double seconds = 0;
  if (absl::SimpleAtod(text, &seconds)) {
    timeout = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &timeout)) {
    return Expected("a time such as 30, 30s or 500ms", text);
  }
  // Written so that NaN is refused too.
  if (!(timeout > absl::ZeroDuration()) || timeout > absl::Hours(24 * 365)) {
    return Expected("a time above 0 and below a year", text);
  }
  return timeout;
}

Setter Time(std::optional<absl::Duration> Options::*field) {
  return [field](Options& o, absl::string_view text) {
    absl::StatusOr<absl::Duration> time = ParseTime(text);
    if (time.ok()) o.*field = *time;
    return time.status();
  };
}

absl::Status SetSeed(Options& o, absl::string_view text) {
  uint64_t seed = 0;
  if (!absl::SimpleAtoi(text, &seed)) return Expected("a whole number from 0 to 2^64 - 1", text);
  o.sampling.set_seed(seed);
  return absl::OkStatus();
}

absl::Status SetMode(Options& o, absl::string_view text) {
  auto mode =
      ParseEnum(*v1::GenerationMode_descriptor(), std::string_view(text.data(), text.size()));
  if (mode.ok()) o.mode = static_cast<v1::GenerationMode>(*mode);
  return mode.status();
}

// Several, separated by commas: bench takes them in turn.
absl::Status SetModes(Options& o, absl::string_view text) {
  o.modes.clear();
  for (absl::string_view name : absl::StrSplit(text, ',')) {
    absl::Status status = SetMode(o, name);
    if (!status.ok()) return status;
    o.modes.push_back(*o.mode);
  }
  return absl::OkStatus();
}

absl::Status SetPreset(Options& o, absl::string_view text) {
  auto preset =
      ParseEnum(*v1::MemoryPreset_descriptor(), std::string_view(text.data(), text.size()));
  if (preset.ok()) o.memory.set_preset(static_cast<v1::MemoryPreset>(*preset));
  return preset.status();
}

absl::Status SetMemory(Options& o, absl::string_view text) {
  return ParseMemory(std::string_view(text.data(), text.size()), o.memory);
}

std::vector<Flag> MakeFlags() {
  using O = Options;
  const unsigned generate = Bit(Command::kGenerate), compare = Bit(Command::kCompare),
                 bench = Bit(Command::kBench);
  return {
      {"target", "HOST:PORT", kEverywhere, "the server; default 127.0.0.1:50051", SetTarget},
      {"timeout", "TIME", kEverywhere,
       "longest time one call may take, such as 90s; default: no limit", Time(&O::timeout)},
      {"tls-ca", "FILE", kEverywhere,
       "use TLS; the authorities, in PEM form, that the server's certificate may come from",
       Text(&O::tls_ca)},
      {"tls-cert", "FILE", kEverywhere, "our own certificate, for a server that asks for one",
       Text(&O::tls_cert)},
      {"tls-key", "FILE", kEverywhere, "the private key of --tls-cert", Text(&O::tls_key)},
      {"tls-server-name", "NAME", kEverywhere,
       "the name in the server's certificate; default: the target's host",
       Text(&O::tls_server_name)},
      {"token-file", "FILE", kEverywhere, "a line `SECRET` or `NAME SECRET`: our token",
       Text(&O::token_file)},
      {"allow-insecure-auth", "", kEverywhere,
       "send the token without TLS to other machines too, where it can be overheard",
       Switch(&O::allow_insecure_auth)},
      {"affinity", "NAME", kAnswering,
       "a conversation's name: a proxy before several servers sends the same name to the same one",
       SetAffinity},
      {"prompt", "TEXT", kPrompted, "the prompt; without it and --prompt-file: standard input",
       Text(&O::prompt)},
      {"prompt-file", "FILE", kPrompted, "the prompt from a file; - is standard input",
       Text(&O::prompt_file)},
      {"system", "TEXT", kPrompted, "a system message before the prompt", Text(&O::system)},
      {"raw", "", kPrompted, "send the prompt as it is, without the model's chat template",
       Switch(&O::raw)},
      {"mode", "MODE", generate, "baseline, soft_delete or sparse_attention; default: the server's",
       SetMode},
      {"mode", "MODE,...", bench, "the calls' modes, taken in turn; default: the server's",
       SetModes},
      {"preset", "PRESET", kGenerating, "memory preset: original, default, chat or tight",
       SetPreset},
      {"memory", "KEY=VALUE,...", kGenerating,
       "memory parameters over the preset, such as time_step=0.1,pinned=0-16", SetMemory},
      {"clients", "N", bench, "clients that each have one call at a time; default 16",
       Count(1, [](O& o, uint32_t n) { o.clients = n; })},
      {"connections", "N", bench, "connections they share; default: one for each client",
       Count(1, [](O& o, uint32_t n) { o.connections = n; })},
      {"duration", "TIME", bench,
       "how long new calls are begun; default 30s, or no limit with --requests",
       Time(&O::duration)},
      {"requests", "N", bench, "answers that each client wants; default: no limit",
       Count(1, [](O& o, uint32_t n) { o.requests = n; })},
      {"prompt-tokens", "N", bench, "length of the prompts, which are random; default 128",
       Count(1, [](O& o, uint32_t n) { o.prompt_tokens = n; })},
      {"trace", "FILE", bench, "write a line of JSON about every call", Text(&O::trace)},
      {"max-tokens", "N", kGenerating, "tokens to generate at most; default 100, bench 128",
       Count(0, [](O& o, uint32_t n) { o.max_tokens = n; })},
      {"ignore-eos", "", kGenerating,
       "go on after the model's end of text; compare, bench: on by default, for equal lengths",
       Switch(&O::ignore_eos)},
      {"temperature", "X", kGenerating, "0 = always the likeliest token (compare's default)",
       Real([](O& o, double x) { o.sampling.set_temperature(x); })},
      {"top-p", "X", kGenerating, "sample from the likeliest tokens of this total probability",
       Real([](O& o, double x) { o.sampling.set_top_p(x); })},
      {"top-k", "N", kGenerating, "sample from the N likeliest tokens; 0 = off",
       Count(0, [](O& o, uint32_t n) { o.sampling.set_top_k(n); })},
      {"seed", "N", kGenerating, "same seed, same tokens", SetSeed},
      {"repeat", "N", compare, "measured runs per mode; the table shows medians; default 1",
       Count(1, [](O& o, uint32_t n) { o.repeat = n; })},
      {"tight-tokens", "N", compare,
       "one more row: sparse_attention with preset tight, N tokens long",
       Count(1, [](O& o, uint32_t n) { o.tight_tokens = n; })},
      {"json", "", kEverywhere, "print JSON instead of text", Switch(&O::json)},
      {"verbose", "", kEverywhere,
       "print more; compare: the texts, side by side where the terminal gives each 20 columns",
       Switch(&O::verbose)},
  };
}

const std::vector<Flag>& Flags() {
  static const auto* const flags = new std::vector<Flag>(MakeFlags());
  return *flags;
}

absl::string_view NameOf(Command command) {
  for (const CommandEntry& entry : kCommands) {
    if (entry.command == command) return entry.name;
  }
  return "";
}

std::string CommandNames() {
  return absl::StrJoin(kCommands, ", ", [](std::string* out, const CommandEntry& e) {
    absl::StrAppend(out, e.name);
  });
}

std::string GeneralHelp() {
  std::string text = "Usage: ebbinghaus COMMAND [FLAGS]\n\nCommands:\n";
  for (const CommandEntry& e : kCommands)
    absl::StrAppendFormat(&text, "  %-10s %s\n", e.name, e.help);
  absl::StrAppend(
      &text,
      "\nebbinghaus COMMAND --help shows a command's flags; ebbinghaus --version the version.\n");
  return text;
}

std::string CommandHelp(const CommandEntry& entry) {
  std::string text =
      absl::StrCat("Usage: ebbinghaus ", entry.name, " [FLAGS]: ", entry.help, "\n\n");
  for (const Flag& flag : Flags()) {
    if ((flag.commands & Bit(entry.command)) == 0) continue;
    const std::string left =
        absl::StrCat("--", flag.name, flag.value.empty() ? "" : " ", flag.value);
    absl::StrAppendFormat(&text, "  %-22s %s\n", left, flag.help);
  }
  absl::StrAppend(
      &text, "\nExit code: 0 the call ended well, 1 it did not, 2 the command line is wrong.\n");
  return text;
}

absl::Status UsageError(Command command, absl::string_view message) {
  return absl::InvalidArgumentError(
      absl::StrCat(message, " (see ebbinghaus ", NameOf(command), " --help)"));
}

absl::StatusOr<const Flag*> FindFlag(Command command, absl::string_view argument,
                                     absl::string_view name) {
  if (!absl::StartsWith(argument, "--")) {
    return UsageError(command,
                      absl::StrCat("unexpected '", argument, "'; a prompt is given with --prompt"));
  }
  bool elsewhere = false;
  for (const Flag& flag : Flags()) {
    if (flag.name != name) continue;
    if ((flag.commands & Bit(command)) != 0) return &flag;
    elsewhere = true;
  }
  if (elsewhere) return UsageError(command, absl::StrCat(NameOf(command), " has no flag --", name));
  return UsageError(command, absl::StrCat("unknown flag --", name));
}

absl::Status CheckTogether(const Options& o) {
  if (o.prompt && o.prompt_file)
    return UsageError(o.command, "give --prompt or --prompt-file, not both");
  if (o.raw && o.system)
    return UsageError(o.command, "--system needs the chat template, --raw leaves it out");
  if (o.tls_cert.has_value() != o.tls_key.has_value())
    return UsageError(o.command, "--tls-cert and --tls-key: one is given without the other");
  if ((o.tls_cert || o.tls_server_name) && !o.tls_ca)
    return UsageError(o.command, absl::StrCat(o.tls_cert ? "--tls-cert" : "--tls-server-name",
                                              ": needs --tls-ca, which says to use TLS"));
  return absl::OkStatus();
}

absl::StatusOr<CommandLine> ParseFlags(const CommandEntry& entry,
                                       const std::vector<std::string>& arguments) {
  CommandLine line;
  line.options.command = entry.command;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      return CommandLine{CommandLine::Action::kHelp, {}, CommandHelp(entry)};
    }
    const size_t equals = argument.find('=');
    const std::string name =
        absl::StartsWith(argument, "--") ? argument.substr(2, equals - 2) : argument;
    auto found = FindFlag(entry.command, argument, name);
    if (!found.ok()) return found.status();
    const Flag& flag = **found;
    std::string value = "on";
    if (equals != argument.npos) {
      value = argument.substr(equals + 1);
    } else if (!flag.value.empty()) {
      if (++i == arguments.size()) {
        return UsageError(entry.command, absl::StrCat("--", name, " needs a value: ", flag.value));
      }
      value = arguments[i];
    }
    absl::Status status = flag.set(line.options, value);
    if (!status.ok())
      return UsageError(entry.command, absl::StrCat("--", name, ": ", status.message()));
  }
  absl::Status status = CheckTogether(line.options);
  if (!status.ok()) return status;
  if (line.options.requests == 0 && !line.options.duration) line.options.duration = kBenchDuration;
  return line;
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a command is missing; there are ", CommandNames()));
  }
  const std::string& name = arguments[0];
  if (name == "--help" || name == "-h" || name == "help") {
    return CommandLine{CommandLine::Action::kHelp, {}, GeneralHelp()};
  }
  if (name == "--version") return CommandLine{CommandLine::Action::kVersion, {}, ""};
  for (const CommandEntry& entry : kCommands) {
    if (entry.name == name) return ParseFlags(entry, arguments);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown command '", name, "'; there are ", CommandNames()));
}

}  // namespace ebbinghaus::client
