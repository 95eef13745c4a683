#include "client/bench_report.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/memory_flag.h"

namespace ebbinghaus::client {
namespace {

// The nearest-rank quantile. Requires: sorted, not empty.
double Quantile(const std::vector<double>& sorted, double q) {
  const auto rank = static_cast<size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

// null where nothing was measured.
Json Spread(std::vector<double> seconds) {
  if (seconds.empty()) return nullptr;
  std::sort(seconds.begin(), seconds.end());
  return {{"median", Quantile(seconds, 0.5)},
          {"p99", Quantile(seconds, 0.99)},
          {"max", seconds.back()}};
}

std::string CodeName(const absl::Status& status) { return absl::StatusCodeToString(status.code()); }

std::string SpreadText(const Json& spread) {
  if (spread.is_null()) return "-";
  const auto ms = [&](const char* key) { return spread[key].get<double>() * 1e3; };
  return absl::StrFormat("median %.1f ms, p99 %.1f ms, at most %.1f ms", ms("median"), ms("p99"),
                         ms("max"));
}

}  // namespace

Json Summarize(const Options& options, const BenchResult& result) {
  std::vector<double> first_tokens, gaps, refusals;
  uint64_t tokens = 0;
  Json calls = Json::object();
  for (const BenchCall& call : result.calls) {
    const std::string code = CodeName(call.status);
    calls[code] = calls.value(code, 0) + 1;
    if (call.status.code() == absl::StatusCode::kResourceExhausted)
      refusals.push_back(call.end - call.start);
    if (!call.status.ok() || call.token_times.empty()) continue;
    first_tokens.push_back(call.token_times.front() - call.start);
    for (size_t i = 0; i < call.token_times.size(); ++i) {
      tokens += call.token_times[i] <= result.seconds;
      if (i > 0) gaps.push_back(call.token_times[i] - call.token_times[i - 1]);
    }
  }
  double last_end = result.seconds;
  for (const BenchCall& call : result.calls) last_end = std::max(last_end, call.end);
  return {
      {"clients", options.clients},
      {"prompt_tokens", options.prompt_tokens},
      {"max_new_tokens", options.max_tokens.value_or(kBenchTokens)},
      {"seconds", result.seconds},
      {"calls", std::move(calls)},
      {"tokens", tokens},
      {"tokens_per_second", result.seconds > 0 ? static_cast<double>(tokens) / result.seconds : 0},
      {"time_to_first_token_seconds", Spread(std::move(first_tokens))},
      {"inter_token_seconds", Spread(std::move(gaps))},
      {"refusal_seconds", Spread(std::move(refusals))},
      {"client_cpu_seconds", result.client_cpu_seconds},
      {"client_cpu_share", last_end > 0 ? result.client_cpu_seconds / last_end : 0}};
}

std::string BenchText(const Json& summary) {
  std::string calls;
  for (const auto& [code, count] : summary["calls"].items())
    absl::StrAppend(&calls, calls.empty() ? "" : ", ", count.get<int>(), " ", code);
  return absl::StrFormat(
      "%d clients, prompts of %d tokens, answers of %d\n"
      "calls          %s\n"
      "tokens/s       %.1f (%d tokens in %.1f s)\n"
      "first token    %s\n"
      "between tokens %s\n"
      "until refused  %s\n"
      "this program   %.2f s of processor time, %.1f %% of one core\n",
      summary["clients"].get<int>(), summary["prompt_tokens"].get<int>(),
      summary["max_new_tokens"].get<int>(), calls.empty() ? "none" : calls,
      summary["tokens_per_second"].get<double>(), summary["tokens"].get<uint64_t>(),
      summary["seconds"].get<double>(), SpreadText(summary["time_to_first_token_seconds"]),
      SpreadText(summary["inter_token_seconds"]), SpreadText(summary["refusal_seconds"]),
      summary["client_cpu_seconds"].get<double>(), summary["client_cpu_share"].get<double>() * 100);
}

std::string BenchTrace(const BenchResult& result) {
  const double begin = absl::ToDoubleSeconds(result.begin - absl::UnixEpoch());
  std::vector<const BenchCall*> ordered;
  for (const BenchCall& call : result.calls) ordered.push_back(&call);
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const BenchCall* a, const BenchCall* b) { return a->start < b->start; });
  std::string lines;
  for (const BenchCall* call : ordered) {
    Json times = Json::array();
    for (double time : call->token_times) times.push_back(begin + time);
    Json line = {{"client", call->client},
                 {"mode", ShortName(call->mode)},
                 {"start", begin + call->start},
                 {"end", begin + call->end},
                 {"code", CodeName(call->status)},
                 {"queue_seconds", call->queue_seconds},
                 {"prompt_tokens", call->prompt_tokens},
                 {"cached_prompt_tokens", call->cached_prompt_tokens},
                 {"token_times", std::move(times)}};
    if (call->retry_delay) line["retry_seconds"] = absl::ToDoubleSeconds(*call->retry_delay);
    absl::StrAppend(&lines, Line(line), "\n");
  }
  return lines;
}

}  // namespace ebbinghaus::client
