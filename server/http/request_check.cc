#include "server/http/request_check.h"

#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "boost/beast/http/error.hpp"
#include "boost/beast/http/verb.hpp"

namespace ebbinghaus::http {
namespace {

namespace beast = boost::beast::http;

constexpr char kNoBody[] = "no body is taken\n";

size_t Count(const beast::fields& fields, beast::field name) {
  const auto [begin, end] = fields.equal_range(name);
  return static_cast<size_t>(std::distance(begin, end));
}

absl::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

Refusal CheckError(const boost::system::error_code& error) {
  if (error == beast::error::header_limit || error == beast::error::buffer_overflow) {
    return {431, "the header is too large\n"};
  }
  if (error == beast::error::body_limit || error == beast::error::unexpected_body) return {413, kNoBody};
  if (error == beast::error::bad_version) return {505, "this is an HTTP/1.1 server\n"};
  const bool unfinished = error == beast::error::end_of_stream || error == beast::error::partial_message;
  if (unfinished || error.category() != beast::make_error_code(beast::error::bad_method).category()) return {};
  return {400, "not an HTTP request\n"};
}

Refusal CheckHeader(const beast::request<beast::empty_body>& request) {
  const size_t hosts = Count(request, beast::field::host);
  const size_t lengths = Count(request, beast::field::content_length);
  const size_t encodings = Count(request, beast::field::transfer_encoding);
  if (hosts > 1 || (hosts == 0 && request.version() >= 11)) return {400, "a request has one Host\n"};
  if (lengths + encodings > 1) return {400, "the body's length is ambiguous\n"};
  const absl::string_view length = View(request[beast::field::content_length]);
  if (length.find_first_not_of("0123456789") != length.npos) return {400, "not a Content-Length\n"};
  if (encodings == 1 && !absl::EqualsIgnoreCase(View(request[beast::field::transfer_encoding]), "chunked")) {
    return {400, "unknown transfer encoding\n"};
  }
  if (request.method() != beast::verb::get && request.method() != beast::verb::head) {
    return {405, "only GET and HEAD are answered\n"};
  }
  if (encodings == 1) return {413, kNoBody};
  if (lengths == 1 && length != "0") return {413, kNoBody};
  return {};
}

std::string_view PathOf(std::string_view target) {
  if (target.empty() || target.front() != '/') {
    const size_t scheme = target.find("://");
    if (scheme == target.npos) return {};
    const size_t path = target.find('/', scheme + 3);
    target = path == target.npos ? "/" : target.substr(path);
  }
  return target.substr(0, target.find_first_of("?#"));
}

}  // namespace ebbinghaus::http
