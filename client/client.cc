#include "client/client.h"

#include "absl/status/statusor.h"
#include "client/bench.h"
#include "client/compare.h"
#include "client/connection.h"
#include "client/credentials.h"
#include "client/generate.h"
#include "client/inspect.h"
#include "client/options.h"
#include "client/prompt.h"
#include "client/utf8.h"

namespace ebbinghaus::client {
namespace {

bool TakesPrompt(Command command) {
  return command == Command::kGenerate || command == Command::kCompare ||
         command == Command::kTokenize;
}

absl::Status RunCommand(const Options& options, const Credentials& credentials,
                        const std::string& prompt, Console& console, Cancellation& cancellation) {
  if (options.command == Command::kBench) {
    return RunBench(options, credentials, console, cancellation);
  }
  absl::StatusOr<Connection> connection =
      Connection::Open(options.target, credentials, options.timeout, cancellation);
  if (!connection.ok()) return connection.status();
  if (options.affinity) connection->SetAffinity(*options.affinity);
  switch (options.command) {
    case Command::kGenerate:
      return RunGenerate(options, prompt, *connection, console);
    case Command::kCompare:
      return RunCompare(options, prompt, *connection, console);
    case Command::kBench:
      break;  // opens its own connections
    case Command::kTokenize:
      return RunTokenize(options, prompt, *connection, console);
    case Command::kInfo:
      return RunInfo(options, *connection, console);
    case Command::kHealth:
      return RunHealth(options, *connection, console);
  }
  return absl::InternalError("a command without an implementation");
}

int Fail(Console& console, absl::string_view message, int exit_code) {
  console.err << "ebbinghaus: " << Printable({message.data(), message.size()}) << std::endl;
  return exit_code;
}

}  // namespace

int Run(const std::vector<std::string>& arguments, Console& console, Cancellation& cancellation) {
  absl::StatusOr<CommandLine> line = ParseCommandLine(arguments);
  if (!line.ok()) return Fail(console, line.status().message(), kExitUsage);
  if (line->action == CommandLine::Action::kHelp) {
    console.out << line->help_text << std::flush;
    return kExitOk;
  }
  if (line->action == CommandLine::Action::kVersion) {
    console.out << "ebbinghaus " << EBBINGHAUS_VERSION << std::endl;
    return kExitOk;
  }
  const absl::StatusOr<Credentials> credentials = ReadCredentials(line->options);
  if (!credentials.ok()) return Fail(console, credentials.status().message(), kExitUsage);
  absl::StatusOr<std::string> prompt = std::string();
  if (TakesPrompt(line->options.command)) prompt = ReadPrompt(line->options, console);
  if (!prompt.ok()) return Fail(console, prompt.status().message(), kExitUsage);
  const absl::Status status = RunCommand(line->options, *credentials, *prompt, console, cancellation);
  if (status.ok()) return kExitOk;
  return Fail(console, Describe(status),
              cancellation.triggered() ? kExitInterrupted : kExitFailure);
}

}  // namespace ebbinghaus::client
