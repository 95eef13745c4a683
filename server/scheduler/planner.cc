#include "server/scheduler/planner.h"

#include <algorithm>
#include <numeric>

namespace ebbinghaus::scheduler {
namespace {

// How many of its prompt tokens each sequence reads.
std::vector<uint32_t> ShareOut(absl::Span<const SequenceView> sequences, uint32_t prompt_tokens) {
  std::vector<uint32_t> read(sequences.size(), 0);
  std::vector<size_t> readers;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (!sequences[i].paused && sequences[i].unread_prompt_tokens > 0) readers.push_back(i);
  }
  if (readers.empty()) return read;
  const size_t longest_ago = *std::min_element(readers.begin(), readers.end(), [&](size_t a, size_t b) {
    return sequences[a].last_read_step < sequences[b].last_read_step;
  });
  std::stable_sort(readers.begin(), readers.end(), [&](size_t a, size_t b) {
    return sequences[a].unread_prompt_tokens < sequences[b].unread_prompt_tokens;
  });
  const auto give = [&](size_t i, uint32_t& tokens) {
    const uint32_t given = std::min(tokens, sequences[i].unread_prompt_tokens - read[i]);
    read[i] += given;
    tokens -= given;
  };
  uint32_t half = prompt_tokens / 2, rest = prompt_tokens - half;
  for (size_t i : readers) give(i, half);
  rest += half;
  give(longest_ago, rest);
  for (size_t i : readers) give(i, rest);
  return read;
}

}  // namespace

std::vector<base::StepItem> PlanStep(absl::Span<const SequenceView> sequences, uint32_t prompt_tokens) {
  const std::vector<uint32_t> read = ShareOut(sequences, prompt_tokens);
  std::vector<base::StepItem> plan;
  for (size_t i = 0; i < sequences.size(); ++i) {
    const SequenceView& view = sequences[i];
    if (view.paused || (view.unread_prompt_tokens > 0 && read[i] == 0)) continue;
    plan.push_back({view.sequence, read[i]});
  }
  return plan;
}

}  // namespace ebbinghaus::scheduler
