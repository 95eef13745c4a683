// The composition root: the only place where the model's side and the network's side meet.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/configuration.h"
#include "server/cpu_count.h"
#include "server/engine/engine.h"
#include "server/http/pages.h"
#include "server/http/server.h"
#include "server/metrics/metrics.h"
#include "server/model/checkpoint.h"
#include "server/model/text_loader.h"
#include "server/rpc/authenticator.h"
#include "server/rpc/credentials.h"
#include "server/rpc/grpc_server.h"
#include "server/rpc/service.h"
#include "server/rpc/version.h"
#include "server/rpc/warm_up.h"
#include "server/scheduler/log.h"
#include "server/scheduler/scheduler.h"
#include "server/serving_state.h"
#include "server/shutdown_signal.h"
#include "server/standard_streams.h"
#include "server/text/unicode.h"
#include "server/watchdog.h"

extern char** environ;

namespace ebbinghaus {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
// For the last messages of a drained server to leave, and then for the network to bring them to the clients: a connection
// on which a request lies unread is reset when the process ends, and what was on its way may be lost with it.
constexpr std::chrono::milliseconds kCloseGrace{2000}, kLastBytes{200};
// How long readers of standard output and standard error may keep the process from going on.
constexpr std::chrono::seconds kStreamPatience{1};

std::map<std::string, std::string> Environment() {
  std::map<std::string, std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string text = *entry;
    size_t equals = text.find('=');
    if (equals != text.npos) all[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return all;
}

// What a terminal can show, whatever a library, a file or a flag had to say: control characters become blanks.
std::string Visible(const std::string& given, bool keep_line_ends) {
  std::string visible;
  for (std::string_view text = given; !text.empty();) {
    const text::Utf8Step step = text::DecodeUtf8(text);
    const char32_t c = step.code_point;
    const bool control = (c < 0x20 || (c >= 0x7f && c < 0xa0)) && !(keep_line_ends && c == '\n');
    text::AppendUtf8(control ? U' ' : c, visible);
    text.remove_prefix(step.size);
  }
  return visible;
}

int Fail(const absl::Status& status) {
  scheduler::FlushLog(kStreamPatience);
  const std::string line = Visible(std::string(status.message()), /*keep_line_ends=*/false);
  WriteWithin(kStreamPatience, STDERR_FILENO, absl::StrCat("ebbinghaus-server: ", line, "\n"));
  return kExitFailure;
}

// What serving needs, in order of construction.
struct Model {
  std::shared_ptr<const text::TextModel> text;
  std::unique_ptr<base::Engine> engine;
};

// What ends a generation, and what a user should know of a file's tokenizer.
void LogText(const model::Checkpoint& checkpoint, const text::TextModel& text) {
  std::string ends;
  for (const base::TokenId id : text.eos_token_ids) {
    absl::StrAppend(&ends, ends.empty() ? "" : " ", id);
    if (id < text.tokenizer->size()) {
      absl::StrAppend(&ends, "=", std::string(text.tokenizer->Piece(id)));
    }
  }
  scheduler::LogInfo("tokenizer", {{"tokens", text.tokenizer->size()}, {"ends_of_text", ends}});
  const auto* gguf = std::get_if<text::GgufVocabulary>(&checkpoint.tokenizer());
  if (gguf != nullptr && gguf->model == "gpt2" && gguf->pre.empty()) {
    scheduler::LogWarning("tokenizer",
                          {{"message", "the file does not say how its tokenizer splits text "
                                       "(tokenizer.ggml.pre); answers suffer if it is not \"default\""}});
  }
  const uint64_t known = gguf != nullptr ? gguf->tokens.size() : 0;
  if (known > text.tokenizer->size()) {
    scheduler::LogWarning("tokenizer", {{"message", "the model has no embeddings for the last tokens; "
                                                    "they are left out"},
                                        {"tokens_left_out", known - text.tokenizer->size()}});
  }
}

engine::EngineOptions EngineOptionsOf(const Configuration& c, uint32_t threads) {
  engine::EngineOptions options;
  options.engine = c.engine;
  options.kernels = c.kernels;
  options.deterministic = c.deterministic;
  options.weights = c.weights;
  options.kv = c.kv;
  options.device = c.device;
  options.threads = static_cast<int>(threads);
  options.kv_memory_bytes = c.kv_memory_bytes;
  options.prefix_cache = c.prefix_cache;
  options.max_context = c.max_context;
  options.progress = [next = uint64_t{0}](uint64_t done, uint64_t all) mutable {
    if (done < next) return;
    scheduler::LogInfo("packing", {{"done_bytes", done}, {"all_bytes", all}});
    next = done + std::max<uint64_t>(all / 4, uint64_t{256} << 20);
  };
  return options;
}

absl::StatusOr<Model> LoadModel(const Configuration& c, uint32_t threads) try {
  Model loaded;
  auto checkpoint = model::OpenCheckpoint(c.model);
  if (!checkpoint.ok()) return checkpoint.status();
  auto text = model::LoadTextModel(**checkpoint);
  if (!text.ok()) return text.status();
  loaded.text = std::make_shared<const text::TextModel>(*std::move(text));
  auto engine = engine::MakeEngine(**checkpoint, EngineOptionsOf(c, threads));
  if (!engine.ok()) return engine.status();
  LogText(**checkpoint, *loaded.text);  // not before: when loading fails, the line that says why stands alone
  loaded.engine = *std::move(engine);
  return loaded;
} catch (const std::exception& error) {  // such as no memory for the file's tables
  return absl::InternalError(absl::StrCat("cannot load ", c.model, ": ", error.what()));
}

void LogLoaded(const base::ModelInfo& model, uint32_t threads) {
  scheduler::LogInfo("loaded", {{"model", model.name},
                                {"architecture", model.architecture},
                                {"engine", model.engine},
                                {"weights", model.weights},
                                {"kv", model.kv},
                                {"weight_bytes", model.weight_bytes},
                                {"context_tokens", model.context_tokens},
                                {"threads", threads},
                                {"version", rpc::Version()}});
}

// 0 turns a timeout off.
base::Duration OrNever(base::Duration timeout) {
  return timeout == base::Duration::zero() ? std::chrono::hours(24 * 3650) : timeout;
}

scheduler::Options SchedulerOptions(const Configuration& c) {
  scheduler::Options options;
  options.default_mode = c.default_mode;
  options.default_preset = c.default_preset;
  options.max_batch = c.max_batch;
  options.max_queue = c.max_queue;
  options.max_queue_tokens = c.max_queue_tokens;
  options.slow_reader_timeout = OrNever(c.slow_reader_timeout);
  options.log_prompts = c.log_prompts;
  return options;
}

rpc::GrpcServerOptions GrpcOptions(const Configuration& c, const rpc::Credentials& credentials,
                                   rpc::InferenceService& service) {
  rpc::GrpcServerOptions options;
  options.host = c.listen.host;
  options.port = c.listen.port;
  options.tls = credentials.tls();
  options.gate = service.gate();
  options.reflection = c.reflection;
  options.max_streams_per_connection = c.max_batch + c.max_queue + 64;
  return options;
}

void ConfigureLog(const ParsedConfiguration& parsed) {
  const std::map<std::string, scheduler::LogLevel> levels = {{"debug", scheduler::LogLevel::kDebug},
                                                             {"info", scheduler::LogLevel::kInfo},
                                                             {"warning", scheduler::LogLevel::kWarning},
                                                             {"error", scheduler::LogLevel::kError}};
  scheduler::LogOptions options;
  options.format = parsed.values.log_format == LogFormat::kJson ? scheduler::LogFormat::kJson : scheduler::LogFormat::kText;
  options.level = levels.at(parsed.values.log_level);
  scheduler::ConfigureLog(std::move(options));
  for (const std::string& warning : parsed.warnings) scheduler::LogWarning("configuration", {{"message", warning}});
}

// NOT_SERVING at once, so that nobody new is sent here; calls are taken until `drain_propagation` has passed, by when
// everybody should know; those underway have `drain_timeout` to finish. The second signal skips both waits, the third ends
// every call. When this returns all answers have left.
void Drain(const Configuration& c, ShutdownSignal& signal, ServingState& state, scheduler::Scheduler& scheduler,
           rpc::InferenceService& service, rpc::GrpcServer& grpc) {
  scheduler::LogInfo("draining");
  state.Draining();
  signal.WaitForAnother(c.drain_propagation);
  bool skipped = signal.signals() > 1;
  signal.OnNext([&] {
    if (std::exchange(skipped, true)) {
      grpc.Shutdown(base::Duration::zero());
    } else {
      scheduler.BeginDrain(base::Duration::zero());
    }
  });
  scheduler.Drain(signal.signals() > 1 ? base::Duration::zero() : c.drain_timeout);
  service.WaitForAnswers(kCloseGrace);
  signal.WaitForAnother(kLastBytes);
  signal.OnNext(nullptr);
  scheduler::LogInfo("stopped");
}

void LogStuck(bool stuck, base::Duration timeout) {
  if (stuck) {
    scheduler::LogError("stuck", {{"step_takes_longer_than_seconds", base::Seconds(timeout)}});
  } else {
    scheduler::LogWarning("no_longer_stuck");
  }
}

int Serve(const Configuration& c, ShutdownSignal& signal) {
  const base::SteadyClock clock;
  const uint32_t threads = c.threads > 0 ? c.threads : UsableCpus();
  auto credentials = rpc::Credentials::Load({{c.tls_cert, c.tls_key, c.tls_client_ca}, c.auth_token_file});
  if (!credentials.ok()) return Fail(credentials.status());

  metrics::Metrics metrics(&clock);
  metrics.SetBuildInfo(rpc::Version());
  ServingState state;
  std::unique_ptr<scheduler::Scheduler> scheduler;  // outlives the servers
  std::atomic<const char*> model_name = "";

  // Both listen before the model is loaded, so that whoever looks sees that it is.
  auto service = rpc::MakeInferenceService(
      {rpc::Version(), c.default_mode, c.default_preset, threads, [&state] { return state.name(); }}, &clock,
      rpc::Authenticator((*credentials)->tokens(), &metrics), &metrics);
  auto http = http::Server::Start(
      c.http_listen.host, c.http_listen.port,
      http::MakePages({[&metrics] { return metrics.Serialize(); }, [&state] { return state.alive(); },
                       [&state] { return state.serving(); }, [&state] { return state.name(); },
                       [&model_name] { return std::string(model_name.load()); }, rpc::Version()}));
  if (!http.ok()) return Fail(http.status());
  auto grpc = rpc::GrpcServer::Start(GrpcOptions(c, **credentials, *service), service->grpc_service());
  if (!grpc.ok()) return Fail(grpc.status());

  // Not above debug: when loading fails, the one line that says why stands alone.
  scheduler::LogDebug("loading", {{"path", c.model}});
  absl::StatusOr<Model> model = LoadModel(c, threads);
  if (!model.ok()) return Fail(model.status());
  LogLoaded(model->engine->model(), threads);
  if (absl::Status status = rpc::WarmUp(model->engine.get(), model->text, &clock); !status.ok()) return Fail(status);
  scheduler = std::make_unique<scheduler::Scheduler>(SchedulerOptions(c), std::move(model->engine), model->text, &metrics,
                                                     &clock);
  model_name = scheduler->model().name.c_str();
  service->Attach(scheduler.get(), model->text);
  state.Loaded();
  state.OnChange([&grpc](bool serving) { (*grpc)->SetServing(serving); });
  const Watchdog watchdog(OrNever(c.watchdog_timeout), [&scheduler] { return scheduler->status().busy; },
                          [&](bool stuck) {
                            state.Stuck(stuck);  // first: it is what health answers
                            LogStuck(stuck, c.watchdog_timeout);
                          });

  signal.BeginServing();  // before anybody can know that there is something to drain
  const std::string ready = absl::StrCat("ready grpc=", c.listen.host, ":", (*grpc)->port(), " http=", c.http_listen.host,
                                         ":", (*http)->port(), " model=", scheduler->model().name, "\n");
  if (!WriteWithin(kStreamPatience, STDOUT_FILENO, ready)) {
    scheduler::LogWarning("ready_line_not_written", {{"message", "standard output is closed or is not read"}});
  }
  signal.Wait();
  Drain(c, signal, state, *scheduler, *service, **grpc);
  // Not by way of gRPC's shutdown: it ends calls that come meanwhile as CANCELLED, which nobody retries. A connection that
  // the kernel closes ends them as UNAVAILABLE, and whoever sent them goes to another server.
  scheduler::FlushLog(kStreamPatience);
  _exit(EXIT_SUCCESS);
}

absl::Status CheckModel(const Configuration& c) try {
  auto checkpoint = model::OpenCheckpoint(c.model);
  if (!checkpoint.ok()) return checkpoint.status();
  if (auto text = model::LoadTextModel(**checkpoint); !text.ok()) return text.status();
  return engine::CheckEngine(**checkpoint, EngineOptionsOf(c, /*threads=*/1));
} catch (const std::exception& error) {
  return absl::InternalError(absl::StrCat("cannot load ", c.model, ": ", error.what()));
}

// Prints what was asked for instead of serving.
int Print(const std::string& text) {
  // A pager may take its time with a long text, so this waits longer than a server would.
  return WriteWithin(std::chrono::hours(1), STDOUT_FILENO, text) ? EXIT_SUCCESS : kExitFailure;
}

// --check-config: all that starting would find, but for what only the weights' values and a free port can tell.
int Check(const ParsedConfiguration& parsed) {
  const Configuration& c = parsed.values;
  for (const std::string& warning : parsed.warnings) {
    WriteWithin(kStreamPatience, STDERR_FILENO, absl::StrCat("warning: ", Visible(warning, false), "\n"));
  }
  int code = EXIT_SUCCESS;
  const auto credentials = rpc::Credentials::Load({{c.tls_cert, c.tls_key, c.tls_client_ca}, c.auth_token_file});
  if (!credentials.ok()) code = Fail(credentials.status());
  if (!c.model.empty()) {
    if (const absl::Status status = CheckModel(c); !status.ok()) code = Fail(status);
  }
  if (code != EXIT_SUCCESS) return code;
  return Print(absl::StrCat("configuration ok: flags, environment, files", c.model.empty() ? "; no model is given" : " and the model",
                            "; weights were not read, ports not tried\n"));
}

}  // namespace
}  // namespace ebbinghaus

int main(int argc, char** argv) {
  using ebbinghaus::Action;
  ebbinghaus::ConfigurationInput input{{argv + 1, argv + argc}, ebbinghaus::Environment()};
  absl::StatusOr<ebbinghaus::ParsedConfiguration> parsed = ebbinghaus::ParseConfiguration(input);
  if (!parsed.ok()) {
    ebbinghaus::WriteWithin(ebbinghaus::kStreamPatience, STDERR_FILENO,
                            absl::StrCat(ebbinghaus::Visible(std::string(parsed.status().message()), true), "\n"));
    return ebbinghaus::kExitUsage;
  }
  switch (parsed->action) {
    case Action::kHelp:
      return ebbinghaus::Print(ebbinghaus::HelpText());
    case Action::kVersion:
      return ebbinghaus::Print(absl::StrCat("ebbinghaus-server ", ebbinghaus::rpc::Version(), "\n"));
    case Action::kPrintConfig:
      return ebbinghaus::Print(ebbinghaus::PrintConfiguration(*parsed));
    case Action::kCheckConfig:
      return ebbinghaus::Check(*parsed);
    case Action::kServe:
      break;
  }
  ebbinghaus::ConfigureLog(*parsed);
  ebbinghaus::ShutdownSignal signal;
  return ebbinghaus::Serve(parsed->values, signal);
}
