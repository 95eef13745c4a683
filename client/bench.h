// `ebbinghaus bench`: a load of clients that each have one call at a time, and what they get.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cancellation.h"
#include "client/console.h"
#include "client/credentials.h"
#include "client/options.h"
#include "ebbinghaus/v1/inference.pb.h"

namespace ebbinghaus::client {

// One call as its client saw it. Times are seconds.
struct BenchCall {
  uint32_t client = 0;
  v1::GenerationMode mode = v1::GENERATION_MODE_UNSPECIFIED;
  double start = 0;                 // since the load began
  std::vector<double> token_times;  // since the load began
  double end = 0;                   // since the load began
  absl::Status status;
  std::optional<absl::Duration> retry_delay;  // the server's hint, with a call it refused
  double queue_seconds = 0;                   // as the server tells it
  uint32_t prompt_tokens = 0;                 // the same
  uint32_t cached_prompt_tokens = 0;          // the same
};

struct BenchResult {
  absl::Time begin;               // of the load, on this machine's clock
  double seconds = 0;             // of --duration, else until the last call ended
  std::vector<BenchCall> calls;   // in the order of their ends
  double client_cpu_seconds = 0;  // what this program itself used
};

// The client's `call`-th request: random token ids, the same for the same seed, client and number,
// and different for any other.
v1::GenerateRequest BenchRequest(const Options& options, uint32_t vocabulary_size, uint32_t client,
                                 uint32_t call);

// Lets every client call until --duration has passed or it has had --requests answers; a call that
// is refused with RESOURCE_EXHAUSTED is repeated after the delay that the server asks for. Calls
// that are underway when the time is over are waited for. Errors: Unavailable, where not even the
// first connection or GetModel succeeds; what later becomes of calls is in the result.
absl::StatusOr<BenchResult> RunLoad(const Options& options, const Credentials& credentials,
                                    Cancellation& cancellation);

// The whole command. Errors: the first call's that ended neither OK nor RESOURCE_EXHAUSTED; Aborted
// when the output cannot be written.
absl::Status RunBench(const Options& options, const Credentials& credentials, Console& console,
                      Cancellation& cancellation);

}  // namespace ebbinghaus::client
