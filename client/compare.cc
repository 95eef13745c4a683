#include "client/compare.h"

#include <algorithm>
#include <cassert>

#include "absl/strings/str_cat.h"
#include "client/compare_report.h"
#include "client/memory_flag.h"
#include "client/prompt.h"
#include "client/utf8.h"

namespace ebbinghaus::client {
namespace {

constexpr uint32_t kDefaultTokens = 100;
constexpr uint32_t kWarmUpTokens = 8;
constexpr uint64_t kDefaultSeed = 1;

double MedianOf(const std::vector<Generation>& runs,
                const std::function<double(const Generation&)>& value) {
  std::vector<double> values;
  for (const Generation& run : runs) values.push_back(value(run));
  return Median(std::move(values));
}

std::optional<Difference> DifferenceFrom(const Generation& baseline, const Generation& other) {
  const std::optional<size_t> token = FirstDifference(baseline.token_ids, other.token_ids);
  if (!token) return std::nullopt;
  // Different tokens may spell the same text for a while, and the text may even end before it
  // differs.
  const std::optional<size_t> character = FirstDifference(baseline.text, other.text);
  const size_t shorter = std::min(CountCodePoints(baseline.text), CountCodePoints(other.text));
  return Difference{*token, character.value_or(shorter)};
}

absl::Status RunOnce(const ComparedMode& mode, Connection& connection,
                     std::vector<Generation>* runs) {
  absl::StatusOr<Generation> run = RunGeneration(
      connection, mode.request, [](const v1::GenerateResponse&) { return absl::OkStatus(); });
  if (!run.ok())
    return absl::Status(run.status().code(), absl::StrCat(mode.name, ": ", run.status().message()));
  if (runs != nullptr) runs->push_back(*std::move(run));
  return absl::OkStatus();
}

void Summarize(const Generation& baseline, ComparedResult& result) {
  result.seconds = MedianOf(
      result.runs, [](const Generation& g) { return absl::ToDoubleSeconds(g.total_time); });
  result.tokens_per_second = MedianOf(
      result.runs, [](const Generation& g) { return g.finished.usage().tokens_per_second(); });
  result.time_to_first_token_seconds = MedianOf(result.runs, [](const Generation& g) {
    return absl::ToDoubleSeconds(g.time_to_first_token);
  });
  result.difference = DifferenceFrom(baseline, result.runs.front());
}

}  // namespace

double Median(std::vector<double> values) {
  assert(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

std::optional<size_t> FirstDifference(const std::vector<uint32_t>& a,
                                      const std::vector<uint32_t>& b) {
  const size_t shorter = std::min(a.size(), b.size());
  for (size_t i = 0; i < shorter; ++i) {
    if (a[i] != b[i]) return i;
  }
  return std::nullopt;
}

std::optional<size_t> FirstDifference(std::string_view a, std::string_view b) {
  for (size_t i = 0; !a.empty() && !b.empty(); ++i) {
    if (TakeCodePoint(a) != TakeCodePoint(b)) return i;
  }
  return std::nullopt;
}

std::vector<ComparedMode> ModesToCompare(const Options& options, const std::string& prompt) {
  Options common = options;
  common.memory.Clear();
  common.max_tokens = options.max_tokens.value_or(kDefaultTokens);
  common.ignore_eos = options.ignore_eos.value_or(true);
  if (!common.sampling.has_temperature()) common.sampling.set_temperature(0);
  if (!common.sampling.has_seed()) common.sampling.set_seed(kDefaultSeed);
  std::vector<ComparedMode> modes;
  for (v1::GenerationMode mode : {v1::GENERATION_MODE_BASELINE, v1::GENERATION_MODE_SOFT_DELETE,
                                  v1::GENERATION_MODE_SPARSE_ATTENTION}) {
    Options own = common;
    own.mode = mode;
    own.memory = MemoryForMode(mode, options.memory);
    modes.push_back({ShortName(mode), BuildGenerateRequest(own, prompt)});
  }
  if (options.tight_tokens > 0) {
    Options tight = common;
    tight.mode = v1::GENERATION_MODE_SPARSE_ATTENTION;
    tight.memory.set_preset(v1::MEMORY_PRESET_TIGHT);
    tight.max_tokens = options.tight_tokens;
    tight.ignore_eos = true;
    modes.push_back({"sparse_attention (tight)", BuildGenerateRequest(tight, prompt)});
  }
  return modes;
}

absl::StatusOr<std::vector<ComparedResult>> Compare(const std::vector<ComparedMode>& modes,
                                                    uint32_t repeat, Connection& connection,
                                                    std::ostream* progress) {
  const auto tell = [&](const std::string& what) {
    if (progress != nullptr) *progress << what << std::endl;
  };
  for (const ComparedMode& mode : modes) {
    tell(absl::StrCat("[warm-up: ", mode.name, "]"));
    ComparedMode brief = mode;
    brief.request.set_max_new_tokens(std::min(mode.request.max_new_tokens(), kWarmUpTokens));
    absl::Status status = RunOnce(brief, connection, nullptr);
    if (!status.ok()) return status;
  }
  std::vector<ComparedResult> results(modes.size());
  for (uint32_t round = 0; round < repeat; ++round) {
    for (size_t turn = 0; turn < modes.size(); ++turn) {
      const size_t i = (round + turn) % modes.size();
      tell(absl::StrCat("[run ", round + 1, " of ", repeat, ": ", modes[i].name, "]"));
      absl::Status status = RunOnce(modes[i], connection, &results[i].runs);
      if (!status.ok()) return status;
    }
  }
  for (size_t i = 0; i < modes.size(); ++i) {
    results[i].name = modes[i].name;
    Summarize(results.front().runs.front(), results[i]);
  }
  return results;
}

absl::Status RunCompare(const Options& options, const std::string& prompt, Connection& connection,
                        Console& console) {
  auto results = Compare(ModesToCompare(options, prompt), options.repeat, connection,
                         options.verbose ? &console.err : nullptr);
  if (!results.ok()) return results.status();
  if (options.json) {
    console.out << ComparisonJson(options, *results) << "\n";
  } else {
    console.out << ComparisonTable(*results) << "\n" << DifferenceLines(*results);
    if (options.verbose) console.out << "\n" << ComparisonDetails(*results, console.width);
  }
  return console.out.flush() ? absl::OkStatus()
                             : absl::AbortedError("cannot write to standard output");
}

}  // namespace ebbinghaus::client
