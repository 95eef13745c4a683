// One client: reads its requests one after the other and answers each, within the limits.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/serializer.hpp"
#include "boost/beast/http/span_body.hpp"
#include "server/http/connection_table.h"
#include "server/http/rendered_page.h"
#include "server/http/server.h"

namespace ebbinghaus::http {

// What all connections share.
struct Shared {
  const Routes& routes;
  const Limits& limits;
  const std::map<std::string, std::unique_ptr<RenderedPage>>& rendered;
  ConnectionTable connections;
};

// Lives in Shared::connections until it is closed. Used on the network's thread only, Stream's wake apart.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // Reads the first request.
  static void Start(boost::asio::ip::tcp::socket socket, Shared& shared);
  Connection(boost::asio::ip::tcp::socket socket, Shared& shared);

  // Now, whatever it is doing.
  void Close();

 private:
  using Error = boost::system::error_code;
  using Parser = boost::beast::http::request_parser<boost::beast::http::empty_body>;
  using Body = boost::beast::http::span_body<const char>;

  // Enters a phase that must end within `timeout`, or the connection is closed.
  void Enter(Phase phase, base::Duration timeout);
  void SetDeadline(base::Duration timeout);

  void ReadRequest();
  void OnHeader(Error error);
  void Refuse(int status, std::string reason);  // and closes, since what follows is not to be trusted
  void Dispatch();
  void Answer(std::shared_ptr<const Response> response);
  void OnAnswered(Error error);
  void Linger();

  void BeginStream(const std::function<void(std::shared_ptr<Stream>)>& handler);
  void WatchStream();  // whether the client goes
  void SendStream();
  void EndStream();

  Shared& shared_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer deadline_;
  ConnectionTable::Place place_;

  boost::beast::flat_buffer buffer_;  // what came, further requests included
  std::optional<Parser> parser_;
  size_t requests_ = 0;
  size_t lingered_bytes_ = 0;
  bool keep_alive_ = false;

  std::shared_ptr<const Response> response_;  // what the serializer sends, until it has been sent
  std::optional<boost::beast::http::response<Body>> message_;
  std::optional<boost::beast::http::response_serializer<Body>> serializer_;

  std::shared_ptr<Stream> stream_;
  std::string sending_;  // what Take gave, while it is sent
  bool stream_sends_ = false;
};

}  // namespace ebbinghaus::http
