#include "client/bench.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/bench_report.h"
#include "client/connection.h"
#include "client/memory_flag.h"
#include "client/prompt.h"

namespace ebbinghaus::client {
namespace {

using Clock = std::chrono::steady_clock;

constexpr char kRetryPushback[] = "grpc-retry-pushback-ms";
// What a client waits when it is refused without a hint.
constexpr absl::Duration kDefaultRetryDelay = absl::Seconds(1);

double CpuSeconds() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::optional<absl::Duration> RetryDelay(const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(kRetryPushback);
  int64_t milliseconds = 0;
  if (found == trailers.end() ||
      !absl::SimpleAtoi(absl::string_view(found->second.data(), found->second.size()),
                        &milliseconds) ||
      milliseconds < 0) {
    return std::nullopt;
  }
  return absl::Milliseconds(milliseconds);
}

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() / 1e9;
}

// The clients' shared side.
class Load {
 public:
  Load(const Options& options, uint32_t vocabulary_size, Cancellation& cancellation)
      : options_(options), vocabulary_size_(vocabulary_size), cancellation_(cancellation) {}

  BenchResult Run(std::vector<Connection> connections) {
    BenchResult result;
    result.begin = absl::Now();
    begin_ = Clock::now();
    const double cpu_before = CpuSeconds();
    std::vector<std::thread> clients;
    for (uint32_t i = 0; i < options_.clients; ++i) {
      clients.emplace_back(
          [this, i, &connections] { Client(i, connections[i % connections.size()]); });
    }
    for (std::thread& client : clients) client.join();
    result.client_cpu_seconds = CpuSeconds() - cpu_before;
    result.calls = std::move(calls_);
    result.seconds = options_.duration ? absl::ToDoubleSeconds(*options_.duration) : Elapsed();
    return result;
  }

 private:
  double Elapsed() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  bool Over() const {
    return cancellation_.triggered() || failed_ ||
           (options_.duration && Elapsed() >= absl::ToDoubleSeconds(*options_.duration));
  }

  void Client(uint32_t client, Connection& connection) {
    for (uint32_t call = 0; options_.requests == 0 || call < options_.requests; ++call) {
      const v1::GenerateRequest request = BenchRequest(options_, vocabulary_size_, client, call);
      do {
        if (Over()) return;
      } while (!Answered(Call(client, request, connection)));
    }
  }

  // False when the call has to be repeated; by then its delay has passed.
  bool Answered(BenchCall call) {
    const absl::StatusCode code = call.status.code();
    const absl::Duration delay = call.retry_delay.value_or(kDefaultRetryDelay);
    std::unique_lock lock(mutex_);
    calls_.push_back(std::move(call));
    if (code == absl::StatusCode::kOk) return true;
    if (code != absl::StatusCode::kResourceExhausted) {
      failed_ = true;
      changed_.notify_all();
      return true;
    }
    const auto until = Clock::now() + absl::ToChronoNanoseconds(delay);
    while (Clock::now() < until && !Over()) {
      // In pieces, since neither the end of the time nor Ctrl-C notifies.
      changed_.wait_until(lock, std::min(until, Clock::now() + std::chrono::milliseconds(100)));
    }
    return false;
  }

  BenchCall Call(uint32_t client, const v1::GenerateRequest& request, Connection& connection) {
    BenchCall call;
    call.client = client;
    call.mode = request.generation_mode();
    call.start = Elapsed();
    bool finished = false;
    call.status = connection.Call([&](grpc::ClientContext& context) {
      auto reader = connection.inference().Generate(&context, request);
      v1::GenerateResponse event;
      while (reader->Read(&event)) {
        finished = finished || event.has_finished();
        Record(event, call);
      }
      grpc::Status status = reader->Finish();
      call.end = Elapsed();
      call.retry_delay = RetryDelay(context);
      return status;
    });
    if (call.status.ok() && !finished)
      call.status = absl::InternalError("the server ended the stream without a `finished` event");
    return call;
  }

  void Record(const v1::GenerateResponse& event, BenchCall& call) const {
    if (event.has_token()) call.token_times.push_back(Elapsed());
    if (event.has_started()) {
      call.prompt_tokens = event.started().prompt_tokens();
      call.cached_prompt_tokens = event.started().cached_prompt_tokens();
    }
    if (event.has_finished())
      call.queue_seconds = Seconds(event.finished().usage().queue_duration());
  }

  const Options& options_;
  const uint32_t vocabulary_size_;
  Cancellation& cancellation_;
  Clock::time_point begin_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> failed_ = false;  // a call ended as none should
  std::vector<BenchCall> calls_;
};

absl::Status WriteTrace(const std::string& path, const BenchResult& result) {
  std::ofstream file(path);
  file << BenchTrace(result);
  return file.flush() ? absl::OkStatus() : absl::AbortedError(absl::StrCat("cannot write ", path));
}

}  // namespace

v1::GenerateRequest BenchRequest(const Options& options, uint32_t vocabulary_size, uint32_t client,
                                 uint32_t call) {
  v1::GenerateRequest request = BuildGenerateRequest(options, "");
  if (!options.modes.empty()) {
    const v1::GenerationMode mode = options.modes[(client + call) % options.modes.size()];
    request.set_generation_mode(mode);
    *request.mutable_memory() = MemoryForMode(mode, options.memory);
    if (request.memory().ByteSizeLong() == 0) request.clear_memory();
  }
  if (!request.has_max_new_tokens()) request.set_max_new_tokens(kBenchTokens);
  if (!request.has_ignore_eos()) request.set_ignore_eos(true);
  const uint64_t seed = options.sampling.has_seed() ? options.sampling.seed() : 1;
  std::seed_seq numbers{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), client,
                        call};
  std::mt19937 random(numbers);
  v1::TokenIds& ids = *request.mutable_token_ids();
  for (uint32_t i = 0; i < options.prompt_tokens; ++i) ids.add_ids(random() % vocabulary_size);
  return request;
}

absl::StatusOr<BenchResult> RunLoad(const Options& options, const Credentials& credentials,
                                    Cancellation& cancellation) {
  std::vector<Connection> connections;
  const uint32_t count = options.connections == 0 ? options.clients : options.connections;
  for (uint32_t i = 0; i < std::min(count, options.clients); ++i) {
    absl::StatusOr<Connection> connection =
        Connection::Open(options.target, credentials, options.timeout, cancellation);
    if (!connection.ok()) return connection.status();
    connections.push_back(*std::move(connection));
  }
  v1::GetModelResponse model;
  const absl::Status known = connections[0].Call([&](grpc::ClientContext& context) {
    return connections[0].inference().GetModel(&context, v1::GetModelRequest(), &model);
  });
  if (!known.ok()) return known;
  if (model.vocabulary_size() == 0) return absl::InternalError("a model without a vocabulary");
  return Load(options, model.vocabulary_size(), cancellation).Run(std::move(connections));
}

absl::Status RunBench(const Options& options, const Credentials& credentials, Console& console,
                      Cancellation& cancellation) {
  absl::StatusOr<BenchResult> result = RunLoad(options, credentials, cancellation);
  if (!result.ok()) return result.status();
  const Json summary = Summarize(options, *result);
  console.out << (options.json ? Line(summary) + "\n" : BenchText(summary));
  if (!console.out.flush()) return absl::AbortedError("cannot write to standard output");
  if (options.trace) {
    absl::Status written = WriteTrace(*options.trace, *result);
    if (!written.ok()) return written;
  }
  for (const BenchCall& call : result->calls) {
    if (!call.status.ok() && call.status.code() != absl::StatusCode::kResourceExhausted)
      return call.status;
  }
  return absl::OkStatus();
}

}  // namespace ebbinghaus::client
