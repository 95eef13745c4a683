// The bench's command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/base/generation.h"

namespace ebbinghaus::bench {

// So many sequences of so many tokens each.
struct Load {
  uint32_t batch = 1;
  uint32_t context = 64;

  bool operator==(const Load&) const = default;
};

struct Options {
  std::string model;  // empty: random weights in the shape of Qwen2.5-0.5B
  // Random weights: bf16, int8 (per row), q8_0, q4_0, q4_1. Of a model file: what --weights of the server takes.
  std::vector<std::string> weights;
  std::vector<std::string> kv;
  std::vector<base::GenerationMode> modes;
  std::vector<uint32_t> contexts;  // of one stream
  std::vector<Load> batches;
  std::vector<double> live;    // fractions
  std::vector<Load> live_at;
  std::vector<uint32_t> prefill;
  uint32_t prefill_chunk = 512;
  bool whole_prompts = false;  // else prompts beyond 4096 tokens are sampled
  uint32_t rounds = 5;
  uint32_t threads = 0;  // 0: what this process may use
  std::string engine = "packed";
  std::string target = "auto";
  std::string json;  // file; empty: none

  bool kernels = false;        // measure the kernels by themselves instead
  uint32_t long_tokens = 0;    // > 0: measure one long generation instead
  uint32_t long_baseline = 0;
  bool driver = false;         // take orders from standard input instead (driver.h)
  bool help = false;
};

std::string HelpText();

// Errors: InvalidArgument with a message for the user.
absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& arguments);

}  // namespace ebbinghaus::bench
