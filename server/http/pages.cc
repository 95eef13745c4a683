#include "server/http/pages.h"

#include <string_view>

#include "absl/strings/str_cat.h"

namespace ebbinghaus::http {
namespace {

// What Prometheus of all ages reads, whatever else its Accept header would prefer.
constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

std::string IndexPage(const Content& content) {
  return absl::StrCat(
      "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Ebbinghaus</title>\n<h1>Ebbinghaus ",
      EscapeHtml(content.version), "</h1>\n<p>Model ", EscapeHtml(content.model()), ", ",
      EscapeHtml(content.state()),
      ".</p>\n<ul>\n<li><a href=\"/metrics\">/metrics</a> for Prometheus</li>\n"
      "<li><a href=\"/healthz\">/healthz</a> answers 200 unless only a restart can help</li>\n"
      "<li><a href=\"/readyz\">/readyz</a> answers 200 while requests are taken</li>\n</ul>\n"
      "<p>Text is generated over gRPC: service ebbinghaus.v1.InferenceService.</p>\n</html>\n");
}

Response Probe(bool well, const std::string& says) {
  return {.status = well ? 200 : 503, .body = absl::StrCat(says, "\n")};
}

}  // namespace

Routes MakePages(const Content& content) {
  Routes routes;
  routes.rendered["/metrics"] = [content] {
    return Response{.content_type = kMetricsType, .body = content.metrics()};
  };
  routes.quick["/healthz"] = [content] {
    const bool alive = content.alive();
    return Probe(alive, alive ? "ok" : content.state());
  };
  routes.quick["/readyz"] = [content] { return Probe(content.ready(), content.state()); };
  routes.quick["/"] = [content] {
    return Response{.content_type = "text/html; charset=utf-8", .body = IndexPage(content)};
  };
  return routes;
}

}  // namespace ebbinghaus::http
