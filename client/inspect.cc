#include "client/inspect.h"

#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/json.h"
#include "client/memory_flag.h"
#include "client/memory_report.h"
#include "client/prompt.h"
#include "client/utf8.h"

namespace ebbinghaus::client {
namespace {

using Lines = std::vector<std::pair<std::string, std::string>>;

Lines ModelLines(const v1::GetModelResponse& model) {
  std::string eos;
  for (uint32_t id : model.eos_token_ids()) absl::StrAppend(&eos, eos.empty() ? "" : ", ", id);
  return {{"model", model.name()},
          {"architecture", model.architecture()},
          {"layers", absl::StrCat(model.layers())},
          {"heads", absl::StrCat(model.query_heads(), " query, ", model.kv_heads(),
                                 " key/value, size ", model.head_size())},
          {"vocabulary", absl::StrCat(model.vocabulary_size())},
          {"context", absl::StrCat(model.context_tokens(), " tokens")},
          {"end of text", eos.empty() ? "none" : absl::StrCat("token ", eos)},
          {"chat template", model.has_chat_template() ? "yes" : "no (use --raw)"},
          {"weights", absl::StrCat(model.weights(), ", ", FormatBytes(model.weight_bytes()))},
          {"K/V",
           absl::StrCat(model.kv(), ", ", FormatBytes(model.kv_bytes_per_token()), " per token")}};
}

Lines StatusLines(const v1::GetServerStatusResponse& status) {
  const absl::Duration uptime =
      absl::Seconds(status.uptime().seconds()) + absl::Nanoseconds(status.uptime().nanos());
  // FormatDuration writes a bare 0 for zero.
  const std::string seconds =
      uptime < absl::Seconds(1) ? "0s" : absl::FormatDuration(absl::Trunc(uptime, absl::Seconds(1)));
  return {{"server", absl::StrCat(status.version(), ", ", status.state(), " for ", seconds)},
          {"threads", absl::StrCat(status.threads())},
          {"requests", absl::StrCat(status.requests_running(), " running, ",
                                    status.requests_queued(), " queued")},
          {"K/V memory", absl::StrCat(FormatBytes(status.kv_used_bytes()), " used, ",
                                      FormatBytes(status.kv_cached_bytes()), " cached, of ",
                                      FormatBytes(status.kv_capacity_bytes()))},
          {"default mode", ShortName(status.default_mode())},
          {"default preset", ShortName(*v1::MemoryPreset_descriptor(), status.default_preset())}};
}

absl::Status Flush(Console& console) {
  return console.out.flush() ? absl::OkStatus()
                             : absl::AbortedError("cannot write to standard output");
}

}  // namespace

absl::Status RunTokenize(const Options& options, const std::string& prompt, Connection& connection,
                         Console& console) {
  v1::TokenizeResponse response;
  absl::Status status = connection.Call([&](grpc::ClientContext& context) {
    return connection.inference().Tokenize(&context, BuildTokenizeRequest(options, prompt),
                                           &response);
  });
  if (!status.ok()) return status;
  if (response.ids_size() != response.pieces_size())
    return absl::InternalError("ids and pieces differ in number");
  if (options.json) {
    console.out << Line(ToJson(response)) << "\n";
    return Flush(console);
  }
  for (int i = 0; i < response.ids_size(); ++i) {
    console.out << absl::StreamFormat("%6d  \"%s\"\n", response.ids(i),
                                      Printable(absl::Utf8SafeCEscape(response.pieces(i))));
  }
  if (options.verbose) console.err << absl::StreamFormat("[%d tokens]\n", response.ids_size());
  return Flush(console);
}

absl::Status RunInfo(const Options& options, Connection& connection, Console& console) {
  v1::GetModelResponse model;
  v1::GetServerStatusResponse server;
  absl::Status status = connection.Call([&](grpc::ClientContext& context) {
    return connection.inference().GetModel(&context, v1::GetModelRequest(), &model);
  });
  if (!status.ok()) return status;
  status = connection.Call([&](grpc::ClientContext& context) {
    return connection.inference().GetServerStatus(&context, v1::GetServerStatusRequest(), &server);
  });
  if (!status.ok()) return status;
  if (options.json) {
    console.out << Line({{"model", ToJson(model)}, {"server", ToJson(server)}}) << "\n";
    return Flush(console);
  }
  for (const Lines& lines : {ModelLines(model), StatusLines(server)}) {
    for (const auto& [name, value] : lines) {
      console.out << absl::StreamFormat("%-15s %s\n", absl::StrCat(name, ":"), PrintableLine(value));
    }
  }
  return Flush(console);
}

absl::Status RunHealth(const Options& options, Connection& connection, Console& console) {
  absl::StatusOr<std::string> serving = connection.Health();
  if (!serving.ok()) return serving.status();
  console.out << (options.json ? Line({{"status", *serving}}) : *serving) << "\n";
  absl::Status written = Flush(console);
  if (!written.ok()) return written;
  return *serving == "SERVING" ? absl::OkStatus()
                               : absl::UnavailableError(absl::StrCat("the server is ", *serving));
}

}  // namespace ebbinghaus::client
