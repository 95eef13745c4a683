// `ebbinghaus compare`: every mode on the same prompt, measured side by side.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/connection.h"
#include "client/console.h"
#include "client/generation.h"
#include "client/options.h"
#include "ebbinghaus/v1/inference.pb.h"

namespace ebbinghaus::client {

// One row of the comparison before it ran.
struct ComparedMode {
  std::string name;  // "sparse_attention (tight)"
  v1::GenerateRequest request;
};

// Where two generations part. Both indices count from 0, characters are code points.
struct Difference {
  size_t token = 0;
  size_t character = 0;
};

struct ComparedResult {
  std::string name;
  std::vector<Generation> runs;  // at least one, without the warm-up
  double seconds = 0;            // medians over the runs, from here on
  double tokens_per_second = 0;  // as the server measured it
  double time_to_first_token_seconds = 0;
  std::optional<Difference>
      difference;  // from baseline, over the shorter one's length; unset: none
};

// The middle value; of an even number of values the mean of the middle two. Requires: not empty.
double Median(std::vector<double> values);

// The first token at which the sequences part, within the length of the shorter; nullopt if there
// is none.
std::optional<size_t> FirstDifference(const std::vector<uint32_t>& a,
                                      const std::vector<uint32_t>& b);
// The same for code points.
std::optional<size_t> FirstDifference(std::string_view a, std::string_view b);

// The three modes, each with the memory parameters it uses, and the row of --tight-tokens. Greedy
// unless the options say otherwise, one seed for all, and of equal length (ignore_eos) unless the
// options say otherwise.
std::vector<ComparedMode> ModesToCompare(const Options& options, const std::string& prompt);

// Runs every mode once briefly, to warm up, and then `repeat` times, the modes taking turns; each
// round starts with another mode, so that none always comes first. Progress goes to `progress` if
// it is set. Errors: the first failure.
absl::StatusOr<std::vector<ComparedResult>> Compare(const std::vector<ComparedMode>& modes,
                                                    uint32_t repeat, Connection& connection,
                                                    std::ostream* progress);

// The whole command: compares and prints the table and the differences; --verbose adds texts and
// memory; --json prints one document instead. Errors: of Compare; Aborted when the output cannot be
// written.
absl::Status RunCompare(const Options& options, const std::string& prompt, Connection& connection,
                        Console& console);

}  // namespace ebbinghaus::client
