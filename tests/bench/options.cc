#include "tests/bench/options.h"

#include <functional>
#include <map>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/base/status_macros.h"

namespace ebbinghaus::bench {
namespace {

absl::Status ParseNumber(const std::string& text, uint32_t& out) {
  if (absl::SimpleAtoi(text, &out)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no count"));
}

absl::Status ParseReal(const std::string& text, double& out) {
  if (absl::SimpleAtod(text, &out) && out > 0 && out <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no fraction in (0, 1]"));
}

// BATCHxCONTEXT, or BATCH for a context of 64.
absl::Status ParseLoad(const std::string& text, Load& out) {
  const std::vector<std::string> parts = absl::StrSplit(text, 'x');
  if (parts.size() > 2) return absl::InvalidArgumentError(absl::StrCat("'", text, "' is not of the form 8x512"));
  EBB_RETURN_IF_ERROR(ParseNumber(parts[0], out.batch));
  return parts.size() == 2 ? ParseNumber(parts[1], out.context) : absl::OkStatus();
}

absl::Status ParseMode(const std::string& text, base::GenerationMode& out) {
  for (const base::GenerationMode mode : base::kAllModes) {
    if (text != base::Name(mode)) continue;
    out = mode;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("there is no mode '", text, "'"));
}

absl::Status ParseText(const std::string& text, std::string& out) {
  out = text;
  return absl::OkStatus();
}

// "none" is the empty list.
template <typename T, typename Parse>
absl::Status ParseList(const std::string& text, Parse parse, std::vector<T>& out) {
  out.clear();
  if (text == "none") return absl::OkStatus();
  for (const std::string& item : std::vector<std::string>(absl::StrSplit(text, ','))) {
    T value{};
    EBB_RETURN_IF_ERROR(parse(item, value));
    out.push_back(std::move(value));
  }
  return absl::OkStatus();
}

void SetFull(Options& o) {
  o.weights = {"bf16", "int8", "q8_0", "q4_0"};
  o.kv = {"bf16", "int8"};
  o.modes.assign(std::begin(base::kAllModes), std::end(base::kAllModes));
  o.contexts = {64, 4096, 16384, 32000};
  o.batches = {{4, 64}, {8, 64}, {16, 64}, {8, 512}};
  o.live = {0.125, 0.25, 0.5};
  o.live_at = {{1, 32000}, {8, 32000}};
  o.prefill = {512, 2048, 8192, 32000};
}

void SetQuick(Options& o) {
  SetFull(o);
  o.weights = {"int8", "q4_0"};
  o.kv = {"int8"};
  o.contexts = {64, 4096, 32000};
  o.batches = {{8, 64}};
  o.live = {0.125};
  o.live_at = {{1, 32000}};
  o.prefill = {512};
  o.rounds = 3;
}

}  // namespace

std::string HelpText() {
  return R"(ebbinghaus-bench: what this machine's engine does per second.

  ebbinghaus-bench [--quick] [--json FILE] [...]     rows of the whole engine, about a quarter of an hour; --quick: a minute
  ebbinghaus-bench --kernels [...]                   the kernels by themselves
  ebbinghaus-bench --long N [--long-baseline M]      N tokens in one go: sparse_attention, preset tight; M of baseline beside

What is measured (lists are separated by commas; "none" is the empty one):
  --model FILE        a GGUF file or Hugging Face folder instead of random weights in the shape of Qwen2.5-0.5B
  --weights LIST      bf16, int8 (one scale per row), q8_0, q4_0, q4_1; with --model: auto, f32, bf16, int8, int4
  --kv LIST           f32, bf16, int8
  --modes LIST        baseline, soft_delete, sparse_attention
  --contexts LIST     tokens of context of one stream
  --batches LIST      sequences x tokens, such as 4x64,8x512
  --live LIST         fractions of the tokens that are live, in sparse_attention
  --live-at LIST      sequences x tokens of those rows
  --prefill LIST      tokens of prompts; --prefill-chunk N (512) of them are read in one pass
  --whole-prompts     read prompts of more than 4,096 tokens to their end, rather than three chunks of them
How:
  --rounds N          interleaved rounds, of whose results the median is shown (5)
  --threads N         default: the processors that this process may use
  --engine E          packed or reference
  --target T          of the packed engine's kernels: auto, portable, avx2, avx512
  --json FILE         also write one JSON object per row and line
  --driver            take orders from standard input, one per line, and answer in JSON: for scripts/peers.sh

tokens_per_second of a prefill row are prompt tokens, and its step is the whole prompt; long prompts take a third or a
fifth of the rounds. percent_of_probe is what a decode step must read (all weights, all live K/V) per second, beside the
bandwidth of a plain read measured in between. Speed means something only on a machine that does nothing else.
)";
}

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments) {
  Options o;
  SetFull(o);
  if (absl::c_linear_search(arguments, "--quick")) SetQuick(o);  // first, so that other flags hold wherever they stand
  const std::map<std::string, std::function<void()>> switches = {
      {"--quick", [] {}},
      {"--whole-prompts", [&] { o.whole_prompts = true; }},
      {"--kernels", [&] { o.kernels = true; }},
      {"--driver", [&] { o.driver = true; }},
      {"--help", [&] { o.help = true; }},
  };
  using Value = std::function<absl::Status(const std::string&)>;
  bool weights_given = false, kv_given = false;
  const std::map<std::string, Value> values = {
      {"--model", [&](const std::string& v) { return ParseText(v, o.model); }},
      {"--weights", [&](const std::string& v) { weights_given = true; return ParseList(v, ParseText, o.weights); }},
      {"--kv", [&](const std::string& v) { kv_given = true; return ParseList(v, ParseText, o.kv); }},
      {"--modes", [&](const std::string& v) { return ParseList(v, ParseMode, o.modes); }},
      {"--contexts", [&](const std::string& v) { return ParseList(v, ParseNumber, o.contexts); }},
      {"--batches", [&](const std::string& v) { return ParseList(v, ParseLoad, o.batches); }},
      {"--live", [&](const std::string& v) { return ParseList(v, ParseReal, o.live); }},
      {"--live-at", [&](const std::string& v) { return ParseList(v, ParseLoad, o.live_at); }},
      {"--prefill", [&](const std::string& v) { return ParseList(v, ParseNumber, o.prefill); }},
      {"--prefill-chunk", [&](const std::string& v) { return ParseNumber(v, o.prefill_chunk); }},
      {"--rounds", [&](const std::string& v) { return ParseNumber(v, o.rounds); }},
      {"--threads", [&](const std::string& v) { return ParseNumber(v, o.threads); }},
      {"--engine", [&](const std::string& v) { return ParseText(v, o.engine); }},
      {"--target", [&](const std::string& v) { return ParseText(v, o.target); }},
      {"--json", [&](const std::string& v) { return ParseText(v, o.json); }},
      {"--long", [&](const std::string& v) { return ParseNumber(v, o.long_tokens); }},
      {"--long-baseline", [&](const std::string& v) { return ParseNumber(v, o.long_baseline); }},
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(arguments[i], absl::MaxSplits('=', 1));
    if (const auto found = switches.find(arguments[i]); found != switches.end()) {
      found->second();
      continue;
    }
    const auto found = values.find(parts.first);
    if (found == values.end()) return absl::InvalidArgumentError(absl::StrCat("there is no flag ", arguments[i], "; see --help"));
    const bool attached = absl::StrContains(arguments[i], "=");
    if (!attached && i + 1 == arguments.size()) return absl::InvalidArgumentError(absl::StrCat(arguments[i], " needs a value"));
    const absl::Status status = found->second(attached ? parts.second : arguments[++i]);
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat(parts.first, ": ", status.message()));
  }
  if (o.rounds == 0 || o.prefill_chunk == 0) return absl::InvalidArgumentError("--rounds and --prefill-chunk must be at least 1");
  // One form where one run is all there is time for.
  if (!weights_given && !o.model.empty()) o.weights = {"auto"};
  if (!weights_given && o.model.empty() && o.long_tokens > 0) o.weights = {"int8"};
  if (!kv_given && (o.long_tokens > 0 || o.driver)) o.kv = {"int8"};
  return o;
}

}  // namespace ebbinghaus::bench
