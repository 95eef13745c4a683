// What makes a request's header one that is better not answered.
#pragma once

#include <string>
#include <string_view>

#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/system/error_code.hpp"

namespace ebbinghaus::http {

struct Refusal {
  int status = 0;  // 0: nothing is wrong
  std::string reason;
};

// For a header that could not be read. Status 0 when there is nobody to tell.
Refusal CheckError(const boost::system::error_code& error);

// For a header that could: anything that two readers could take for different requests, a body (nothing here takes one),
// a method other than GET and HEAD.
Refusal CheckHeader(const boost::beast::http::request<boost::beast::http::empty_body>& request);

// The path of "/path?query" or "http://host/path?query".
std::string_view PathOf(std::string_view target);

}  // namespace ebbinghaus::http
