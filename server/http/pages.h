// The pages of this server's HTTP port: metrics, health, and one that says what runs here.
#pragma once

#include <functional>
#include <string>

#include "server/http/server.h"

namespace ebbinghaus::http {

// Where the pages get their content; called on the HTTP server's threads. All but `metrics` must not wait.
struct Content {
  std::function<std::string()> metrics;  // text exposition format
  std::function<bool()> alive;           // false when only a restart can help
  std::function<bool()> ready;           // false while loading, draining or not alive
  std::function<std::string()> state;    // "loading", "serving", "draining", "stuck"
  std::function<std::string()> model;    // its name; empty while loading
  std::string version;
};

// /metrics, /healthz (503 if not alive), /readyz (503 if not ready) and /.
Routes MakePages(const Content& content);

}  // namespace ebbinghaus::http
