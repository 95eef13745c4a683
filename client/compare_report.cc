#include "client/compare_report.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/json.h"
#include "client/memory_flag.h"
#include "client/memory_report.h"
#include "client/table.h"
#include "client/utf8.h"

namespace ebbinghaus::client {
namespace {

constexpr size_t kExcerptCharacters = 24;

// What a text says from a character on, on one line.
std::string Excerpt(const std::string& text, size_t character) {
  const std::string excerpt = PrintableLine(CodePointSubstring(text, character, kExcerptCharacters));
  return absl::StrCat("\"", excerpt,
                      CountCodePoints(text) > character + kExcerptCharacters ? "..." : "", "\"");
}

Json RunJson(const Generation& run) {
  const v1::Usage& usage = run.finished.usage();
  return {{"seconds", absl::ToDoubleSeconds(run.total_time)},
          {"tokens_per_second", usage.tokens_per_second()},
          {"time_to_first_token_seconds", absl::ToDoubleSeconds(run.time_to_first_token)},
          {"generated_tokens", usage.generated_tokens()},
          {"live_tokens", run.finished.memory_stats().live_tokens()},
          {"forgotten_tokens", run.finished.memory_stats().forgotten_tokens()}};
}

Json ResultJson(const ComparedResult& result) {
  const Generation& first = result.runs.front();
  Json row = {
      {"name", result.name},
      {"mode", ShortName(first.started.mode())},
      {"generated_tokens", first.finished.usage().generated_tokens()},
      {"seconds", result.seconds},
      {"tokens_per_second", result.tokens_per_second},
      {"time_to_first_token_seconds", result.time_to_first_token_seconds},
      {"live_tokens", first.finished.memory_stats().live_tokens()},
      {"forgotten_tokens", first.finished.memory_stats().forgotten_tokens()},
      {"finish_reason", ShortName(first.finished.finish_reason())},
      {"first_difference", nullptr},
      {"text", first.text},
      {"token_ids", first.token_ids},
      {"memory", first.started.has_memory() ? ToJson(first.started.memory()) : Json(nullptr)},
      {"memory_stats", ToJson(first.finished.memory_stats())},
      {"runs", Json::array()}};
  if (result.difference) {
    row["first_difference"] = {{"token", result.difference->token},
                               {"character", result.difference->character}};
  }
  for (const Generation& run : result.runs) row["runs"].push_back(RunJson(run));
  return row;
}

}  // namespace

std::string ComparisonTable(const std::vector<ComparedResult>& results) {
  Table table({{"mode", Table::Align::kLeft},
               {"tokens"},
               {"seconds"},
               {"tokens/s"},
               {"first token (s)"},
               {"live/forgotten tokens"}});
  for (const ComparedResult& result : results) {
    const v1::Finished& finished = result.runs.front().finished;
    table.AddRow({result.name, absl::StrCat(finished.usage().generated_tokens()),
                  absl::StrFormat("%.2f", result.seconds),
                  absl::StrFormat("%.1f", result.tokens_per_second),
                  absl::StrFormat("%.3f", result.time_to_first_token_seconds),
                  absl::StrCat(finished.memory_stats().live_tokens(), "/",
                               finished.memory_stats().forgotten_tokens())});
  }
  return table.Render();
}

std::string DifferenceLines(const std::vector<ComparedResult>& results) {
  std::string lines;
  const Generation& baseline = results.front().runs.front();
  for (size_t i = 1; i < results.size(); ++i) {
    const ComparedResult& result = results[i];
    const Generation& run = result.runs.front();
    if (result.difference) {
      const auto [token, character] = *result.difference;
      absl::StrAppend(&lines, result.name, " first differs from ", results.front().name,
                      " at token ", token, ", character ", character, ": ",
                      Excerpt(run.text, character), " instead of ",
                      Excerpt(baseline.text, character), "\n");
      continue;
    }
    const size_t shared = std::min(run.token_ids.size(), baseline.token_ids.size());
    absl::StrAppend(&lines, result.name, " says the same as ", results.front().name, " in all ",
                    shared, " tokens");
    absl::StrAppend(&lines,
                    run.token_ids.size() == baseline.token_ids.size() ? "\n" : " that both have\n");
  }
  return lines;
}

std::string ComparisonDetails(const std::vector<ComparedResult>& results, int width) {
  std::vector<TitledText> texts;
  for (const ComparedResult& result : results)
    texts.push_back({result.name, result.runs.front().text});
  std::string details = SideBySide(texts, width);
  for (const ComparedResult& result : results) {
    const v1::MemoryStats& stats = result.runs.front().finished.memory_stats();
    absl::StrAppend(&details, "\n", result.name, " ", MemorySummary(stats), MemoryTable(stats));
  }
  return details;
}

std::string ComparisonJson(const Options& options, const std::vector<ComparedResult>& results) {
  const v1::Started& started = results.front().runs.front().started;
  Json document = {{"target", options.target},
                   {"model", started.model()},
                   {"prompt_tokens", started.prompt_tokens()},
                   {"max_new_tokens", started.max_new_tokens()},
                   {"seed", started.seed()},
                   {"sampling", ToJson(started.sampling())},
                   {"repeat", options.repeat},
                   {"modes", Json::array()}};
  for (const ComparedResult& result : results) document["modes"].push_back(ResultJson(result));
  return Indented(document);
}

}  // namespace ebbinghaus::client
