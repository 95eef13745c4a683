// A configuration file; after a zero byte come lines of arguments, after another one lines NAME=VALUE of the environment.
// What --print-config prints reads back as the same configuration.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "server/base/check.h"
#include "server/configuration.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus {
namespace {

ConfigurationInput Read(std::string_view input, const std::string& path) {
  const auto [arguments, environment] = fuzz::SplitAtZero(input);
  ConfigurationInput read;
  for (absl::string_view line : absl::StrSplit(absl::string_view(arguments.data(), arguments.size()), '\n', absl::SkipEmpty())) {
    // Another file would be read, perhaps one that never ends.
    if (!absl::StartsWith(line, "--config")) read.arguments.emplace_back(line);
  }
  for (absl::string_view line : absl::StrSplit(absl::string_view(environment.data(), environment.size()), '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(line, absl::MaxSplits('=', 1));
    read.environment.emplace(pair.first, pair.second);
  }
  read.arguments.insert(read.arguments.begin(), {"--config", path});
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto [content, rest] = fuzz::SplitAtZero(fuzz::AsText(data, size));
  const fuzz::MemoryFile file(content);
  absl::StatusOr<ParsedConfiguration> parsed = ParseConfiguration(Read(rest, file.path()));
  if (!parsed.ok() || parsed->action == Action::kHelp || parsed->action == Action::kVersion) return 0;
  const std::string printed = PrintConfiguration(*parsed);
  const fuzz::MemoryFile printed_file(printed);
  absl::StatusOr<ParsedConfiguration> again = ParseConfiguration({{"--check-config", "--config", printed_file.path()}, {}});
  EBB_CHECK(again.ok());
  again->sources = parsed->sources;
  EBB_CHECK(PrintConfiguration(*again) == printed);
  return 0;
}

}  // namespace ebbinghaus
