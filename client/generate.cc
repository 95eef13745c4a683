#include "client/generate.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/generation.h"
#include "client/json.h"
#include "client/memory_flag.h"
#include "client/memory_report.h"
#include "client/prompt.h"
#include "client/utf8.h"

namespace ebbinghaus::client {
namespace {

class Printer {
 public:
  Printer(const Options& options, Console& console) : options_(options), console_(console) {}

  absl::Status Print(const v1::GenerateResponse& event) {
    if (options_.json) {
      console_.out << Line(ToJson(event)) << '\n';
    } else if (event.has_token() && !event.token().text().empty()) {
      const std::string& text = event.token().text();
      console_.out << (console_.out_is_terminal ? Printable(text) : text);
      in_line_ = text.back() != '\n';
    }
    if (!console_.out.flush()) return absl::AbortedError("cannot write to standard output");
    if (options_.verbose && event.has_started()) Tell(event.started());
    return absl::OkStatus();
  }

  // Ends the text's last line, so that what follows starts on its own.
  void EndLine() {
    if (in_line_) console_.out << std::endl;
    in_line_ = false;
  }

 private:
  void Tell(const v1::Started& started) {
    console_.err << absl::StreamFormat(
        "[request %s: %s, %s, seed %d, %d prompt tokens]\n", PrintableLine(started.request_id()),
        PrintableLine(started.model()),
        ShortName(started.mode()), started.seed(), started.prompt_tokens());
    if (started.has_memory())
      console_.err << "[memory: " << FormatMemory(started.memory()) << "]\n";
    console_.err.flush();
  }

  const Options& options_;
  Console& console_;
  bool in_line_ = false;
};

void TellResult(const Generation& result, std::ostream& err) {
  const v1::Usage& usage = result.finished.usage();
  err << absl::StreamFormat(
      "[%s after %d tokens in %.2f s: %.1f tokens/s, first token after %.3f s]\n",
      ShortName(result.finished.finish_reason()), usage.generated_tokens(),
      absl::ToDoubleSeconds(result.total_time), usage.tokens_per_second(),
      absl::ToDoubleSeconds(result.time_to_first_token));
  err << MemorySummary(result.finished.memory_stats())
      << MemoryTable(result.finished.memory_stats());
  err.flush();
}

}  // namespace

absl::Status RunGenerate(const Options& options, const std::string& prompt, Connection& connection,
                         Console& console) {
  Printer printer(options, console);
  absl::StatusOr<Generation> result =
      RunGeneration(connection, BuildGenerateRequest(options, prompt),
                    [&](const v1::GenerateResponse& event) { return printer.Print(event); });
  printer.EndLine();
  if (result.ok() && options.verbose) TellResult(*result, console.err);
  return result.status();
}

}  // namespace ebbinghaus::client
