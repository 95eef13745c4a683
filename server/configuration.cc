#include "server/configuration.h"

#include <fstream>
#include <optional>
#include <regex>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/configuration_file.h"
#include "server/configuration_options.h"

namespace ebbinghaus {
namespace {

constexpr absl::string_view kEnvironmentPrefix = "EBBINGHAUS_";
constexpr size_t kMaxFileBytes = 1 << 20;

std::string EnvironmentName(absl::string_view option) {
  return absl::StrCat(kEnvironmentPrefix, absl::AsciiStrToUpper(absl::StrReplaceAll(option, {{"-", "_"}})));
}

// Whether Kubernetes made the variable: it gives every container a set of them for each Service of its namespace, made of
// the Service's name, and one called `ebbinghaus` or `ebbinghaus-...` puts them among ours. Source: the Kubernetes
// documentation, "Discovering services", environment variables.
bool IsServiceVariable(absl::string_view name, absl::string_view value) {
  static const auto* const pattern = new std::regex(
      ".*_SERVICE_HOST|.*_SERVICE_PORT(_[A-Z0-9_]+)?|.*_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?");
  if (name.size() > 256) return false;
  if (absl::EndsWith(name, "_PORT") && absl::StrContains(value, "://")) return true;  // "tcp://10.0.0.1:50051"
  return std::regex_match(std::string(name), *pattern);
}

constexpr std::pair<absl::string_view, Action> kActions[] = {{"help", Action::kHelp},
                                                            {"version", Action::kVersion},
                                                            {"print-config", Action::kPrintConfig},
                                                            {"check-config", Action::kCheckConfig}};

std::optional<Action> FindAction(absl::string_view name) {
  for (const auto& [known, action] : kActions) {
    if (known == name) return action;
  }
  return std::nullopt;
}

class Reader {
 public:
  explicit Reader(const ConfigurationInput& input) : input_(input) {
    for (const Option& option : Options()) parsed_.sources[option.name] = "default";
  }

  absl::StatusOr<ParsedConfiguration> Read() {
    // Lowest precedence is applied first, but the command line must be read first: it names the file.
    std::vector<std::pair<std::string, std::string>> flags = ReadArguments();
    std::vector<std::pair<std::string, std::string>> environment = ReadEnvironment();
    if (!config_path_.empty()) ReadFile();
    for (const auto& [name, value] : environment) Apply(name, value, "environment", EnvironmentName(name));
    for (const auto& [name, value] : flags) Apply(name, value, "flag", absl::StrCat("--", name));
    if (parsed_.action == Action::kServe && parsed_.values.model.empty()) {
      problems_.push_back("--model: required: a Hugging Face folder or a .gguf file");
    }
    CheckTogether();
    if (parsed_.action == Action::kPrintConfig) CheckPrintable();
    if (parsed_.action == Action::kHelp || parsed_.action == Action::kVersion) return std::move(parsed_);
    if (!problems_.empty()) return absl::InvalidArgumentError(absl::StrJoin(problems_, "\n"));
    return std::move(parsed_);
  }

 private:
  // The rules over several options.
  void CheckTogether() {
    const Configuration& c = parsed_.values;
    if (c.tls_cert.empty() != c.tls_key.empty()) {
      problems_.push_back("--tls-cert and --tls-key: one is given without the other");
    }
    if (!c.tls_client_ca.empty() && c.tls_cert.empty()) {
      problems_.push_back("--tls-client-ca: needs --tls-cert and --tls-key");
    }
    if (!c.auth_token_file.empty() && c.tls_cert.empty() && !c.allow_insecure_auth && !IsLoopback(c.listen)) {
      problems_.push_back(absl::StrCat("--auth-token-file: tokens would cross the network in the clear to --listen ",
                                       ToString(c.listen),
                                       "; give --tls-cert and --tls-key, or listen on 127.0.0.1, or say "
                                       "--allow-insecure-auth if the network is to be trusted"));
    }
  }

  // What is printed has to be a file that reads back.
  void CheckPrintable() {
    for (const Option& option : Options()) {
      if (!absl::StrContains(option.get(parsed_.values), '\n')) continue;
      problems_.push_back(absl::StrCat("--print-config: the value of --", option.name,
                                       " has a line end, which a configuration file cannot hold"));
    }
  }

  std::vector<std::pair<std::string, std::string>> ReadArguments() {
    std::vector<std::pair<std::string, std::string>> flags;
    const std::vector<std::string>& arguments = input_.arguments;
    for (size_t i = 0; i < arguments.size(); ++i) {
      if (!absl::StartsWith(arguments[i], "--") || arguments[i].size() == 2) {
        problems_.push_back(absl::StrCat("'", arguments[i], "': not a flag; every argument is --name value (--help)"));
        continue;
      }
      std::pair<std::string, std::optional<std::string>> parts;
      std::vector<std::string> split = absl::StrSplit(arguments[i].substr(2), absl::MaxSplits('=', 1));
      parts.first = split[0];
      if (split.size() == 2) parts.second = split[1];
      if (auto action = FindAction(parts.first); action && !parts.second) {
        parsed_.action = *action;
        continue;
      }
      const Option* option = FindOption(parts.first);
      if (option == nullptr && parts.first != "config") {
        problems_.push_back(absl::StrCat("--", parts.first, ": unknown flag (--help lists all)"));
        // Its value, if it looks like one, belongs to it and is no second problem.
        if (!parts.second && i + 1 < arguments.size() && !absl::StartsWith(arguments[i + 1], "--")) ++i;
        continue;
      }
      if (!parts.second && option != nullptr && option->is_switch) {
        parts.second = "on";
        // `--log-prompts off` too, since the environment and the file spell it so.
        if (i + 1 < arguments.size() && ParseBool(arguments[i + 1]).ok()) parts.second = arguments[++i];
      }
      if (!parts.second) {
        if (i + 1 >= arguments.size() || absl::StartsWith(arguments[i + 1], "--")) {
          problems_.push_back(absl::StrCat("--", parts.first, ": needs a value"));
          continue;
        }
        parts.second = arguments[++i];
      }
      if (parts.first == "config") {
        config_path_ = *parts.second;
      } else {
        flags.emplace_back(parts.first, *parts.second);
      }
    }
    return flags;
  }

  std::vector<std::pair<std::string, std::string>> ReadEnvironment() {
    std::vector<std::pair<std::string, std::string>> values;
    std::set<std::string> known = {EnvironmentName("config")};
    for (const Option& option : Options()) {
      known.insert(EnvironmentName(option.name));
      auto found = input_.environment.find(EnvironmentName(option.name));
      if (found != input_.environment.end()) values.emplace_back(option.name, found->second);
    }
    if (auto found = input_.environment.find(EnvironmentName("config"));
        found != input_.environment.end() && config_path_.empty()) {
      config_path_ = found->second;
    }
    std::vector<std::string> strange;
    for (const auto& [name, value] : input_.environment) {
      const bool ours = absl::StartsWith(name, kEnvironmentPrefix);
      if (ours && known.count(name) == 0 && !IsServiceVariable(name, value)) strange.push_back(name);
    }
    if (!strange.empty()) {
      parsed_.warnings.push_back(
          absl::StrCat("environment variables that name no option are ignored: ", absl::StrJoin(strange, ", ")));
    }
    return values;
  }

  void ReadFile() {
    std::ifstream file(config_path_);
    std::string text(kMaxFileBytes + 1, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    if (file.bad() || (text.empty() && !file.eof()) || text.size() > kMaxFileBytes) {
      problems_.push_back(absl::StrCat("--config ", config_path_, ": cannot be read, or is larger than 1 MiB"));
      return;
    }
    std::set<std::string> seen;
    for (const ConfigLine& line : ParseConfigText(text)) {
      const std::string where = absl::StrCat(config_path_, ":", line.number);
      if (!line.setting) {
        problems_.push_back(absl::StrCat(where, ": ", line.problem));
      } else if (const auto& [name, value] = *line.setting; FindOption(name) == nullptr) {
        problems_.push_back(absl::StrCat(where, ": unknown key '", name, "'"));
      } else if (!seen.insert(name).second) {
        problems_.push_back(absl::StrCat(where, ": key '", name, "' is there twice"));
      } else {
        Apply(name, value, "file", where);
      }
    }
  }

  void Apply(const std::string& name, absl::string_view value, const char* source, absl::string_view where) {
    if (absl::Status status = FindOption(name)->set(parsed_.values, value); !status.ok()) {
      problems_.push_back(absl::StrCat(where, source == absl::string_view("file") ? absl::StrCat(": ", name) : "", ": ",
                                       status.message()));
    } else {
      parsed_.sources[name] = source;
    }
  }

  const ConfigurationInput& input_;
  ParsedConfiguration parsed_;
  std::string config_path_;
  std::vector<std::string> problems_;
};

}  // namespace

absl::StatusOr<ParsedConfiguration> ParseConfiguration(const ConfigurationInput& input) {
  return Reader(input).Read();
}

std::string HelpText() {
  std::string text =
      "Usage: ebbinghaus-server --model PATH [--flag value]...\n"
      "Serves a language model over gRPC with a memory that forgets.\n\n";
  const Configuration defaults;
  for (const Option& option : Options()) {
    std::string value = option.get(defaults);
    absl::StrAppend(&text, "  --", option.name, " ", option.value_name, "\n      ", option.help,
                    value.empty() ? "" : absl::StrCat(" (default ", value, ")"), "\n");
  }
  absl::StrAppend(&text,
                  "  --config FILE\n      lines of `flag: value` or `flag = value`; # starts a comment; values may be quoted\n"
                  "  --print-config\n      print every value in force and where it came from, then exit\n"
                  "  --check-config\n      check flags, environment, files and whether the model would load (not its weights), then exit\n"
                  "  --version\n  --help\n\n"
                  "Every flag is also an environment variable (--max-batch: EBBINGHAUS_MAX_BATCH) and a key of the\n"
                  "file; a flag beats the environment, the environment beats the file.\n");
  return text;
}

std::string PrintConfiguration(const ParsedConfiguration& parsed) {
  std::string text;
  for (const Option& option : Options()) {
    const std::string value = option.get(parsed.values);
    // A path that is not set has no value that could be read back.
    const std::string setting = absl::StrCat(option.name, " = ", value.empty() ? "" : ConfigValue(value));
    absl::StrAppend(&text, value.empty() ? "# " : "", setting, "  # ", parsed.sources.at(option.name), "\n");
  }
  return text;
}

}  // namespace ebbinghaus
