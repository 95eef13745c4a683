#include "server/http/connection.h"

#include <array>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "boost/asio/buffer.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/http/chunk_encode.hpp"
#include "boost/beast/http/read.hpp"
#include "boost/beast/http/write.hpp"
#include "server/http/request_check.h"

namespace ebbinghaus::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast::http;
using asio::ip::tcp;

// What is read in vain from a client that was refused, so that it finds the answer instead of a reset.
constexpr size_t kLingerBytes = 256 << 10;
// Doubled by the kernel. Left to itself it would grow to megabytes for a client that does not read.
constexpr int kSocketBufferBytes = 64 << 10;

constexpr char kStreamType[] = "text/event-stream";

void SetCommonFields(const char* content_type, beast::fields& fields) {
  fields.set(beast::field::date,
             absl::FormatTime("%a, %d %b %E4Y %H:%M:%S GMT", absl::Now(), absl::UTCTimeZone()));
  fields.set(beast::field::content_type, content_type);
  fields.set(beast::field::cache_control, "no-store");
  fields.set("X-Content-Type-Options", "nosniff");
}

}  // namespace

void Connection::Start(tcp::socket socket, Shared& shared) {
  auto connection = std::make_shared<Connection>(std::move(socket), shared);
  connection->place_ = shared.connections.Add(connection);
  connection->ReadRequest();
}

Connection::Connection(tcp::socket socket, Shared& shared)
    : shared_(shared), socket_(std::move(socket)), deadline_(socket_.get_executor()),
      buffer_(shared.limits.header_bytes) {
  Error ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.set_option(asio::socket_base::send_buffer_size(kSocketBufferBytes), ignored);
}

void Connection::Close() {
  if (!socket_.is_open()) return;
  const auto self = shared_from_this();
  Error ignored;
  socket_.close(ignored);
  deadline_.cancel();
  shared_.connections.Remove(place_);
  if (stream_ != nullptr) stream_->Gone();
}

void Connection::Enter(Phase phase, base::Duration timeout) {
  shared_.connections.Move(place_, phase);
  SetDeadline(timeout);
}

void Connection::SetDeadline(base::Duration timeout) {
  deadline_.expires_after(timeout);
  deadline_.async_wait([self = shared_from_this()](Error error) {
    // Not if it was moved while this was on its way here.
    if (!error && self->deadline_.expiry() <= asio::steady_timer::clock_type::now()) self->Close();
  });
}

void Connection::ReadRequest() {
  Enter(Phase::kReading, shared_.limits.read_timeout);
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(shared_.limits.header_bytes));
  beast::async_read_header(socket_, buffer_, *parser_,
                           [self = shared_from_this()](Error error, size_t) { self->OnHeader(error); });
}

void Connection::OnHeader(Error error) {
  if (!socket_.is_open()) return;
  ++requests_;
  if (error) {
    Refusal refusal = CheckError(error);
    return refusal.status == 0 ? Close() : Refuse(refusal.status, std::move(refusal.reason));
  }
  if (Refusal refusal = CheckHeader(parser_->get()); refusal.status != 0) {
    return Refuse(refusal.status, std::move(refusal.reason));
  }
  keep_alive_ = parser_->get().keep_alive() && requests_ < shared_.limits.requests_per_connection;
  Dispatch();
}

void Connection::Refuse(int status, std::string reason) {
  keep_alive_ = false;
  Answer(std::make_shared<const Response>(Response{.status = status, .body = std::move(reason)}));
}

void Connection::Dispatch() {
  const boost::beast::string_view target = parser_->get().target();
  const std::string path(PathOf({target.data(), target.size()}));
  if (auto quick = shared_.routes.quick.find(path); quick != shared_.routes.quick.end()) {
    Answer(std::make_shared<const Response>(Run(quick->second)));
  } else if (auto rendered = shared_.rendered.find(path); rendered != shared_.rendered.end()) {
    Enter(Phase::kWaiting, shared_.limits.answer_timeout);
    rendered->second->Ask(weak_from_this(), [this](auto response) {
      if (socket_.is_open()) Answer(std::move(response));
    });
  } else if (auto stream = shared_.routes.streams.find(path); stream != shared_.routes.streams.end()) {
    BeginStream(stream->second);
  } else {
    Answer(std::make_shared<const Response>(Response{.status = 404, .body = "there is no such page\n"}));
  }
}

void Connection::Answer(std::shared_ptr<const Response> response) {
  Enter(Phase::kAnswering, shared_.limits.answer_timeout);
  response_ = std::move(response);
  const beast::request<beast::empty_body>& request = parser_->get();
  const bool head = request.method() == beast::verb::head;
  message_.emplace(static_cast<beast::status>(response_->status), request.version() == 10 ? 10 : 11);
  SetCommonFields(response_->content_type.c_str(), *message_);
  if (response_->status == 405) message_->set(beast::field::allow, "GET, HEAD");
  if (response_->status == 503) message_->set(beast::field::retry_after, "1");
  message_->keep_alive(keep_alive_);
  message_->content_length(response_->body.size());
  message_->body() = {response_->body.data(), response_->body.size()};
  serializer_.emplace(*message_);
  auto answered = [self = shared_from_this()](Error error, size_t) { self->OnAnswered(error); };
  if (head) {
    beast::async_write_header(socket_, *serializer_, std::move(answered));
  } else {
    beast::async_write(socket_, *serializer_, std::move(answered));
  }
}

void Connection::OnAnswered(Error error) {
  serializer_.reset();
  message_.reset();
  response_.reset();
  if (!socket_.is_open()) return;
  if (error) return Close();
  if (keep_alive_) return ReadRequest();
  socket_.shutdown(tcp::socket::shutdown_send, error);
  if (error) return Close();
  Enter(Phase::kLingering, shared_.limits.linger_timeout);
  Linger();
}

void Connection::Linger() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(shared_.limits.header_bytes),
                          [self = shared_from_this()](Error error, size_t bytes) {
                            self->lingered_bytes_ += bytes;
                            if (error || self->lingered_bytes_ > kLingerBytes) return self->Close();
                            self->Linger();
                          });
}

void Connection::BeginStream(const std::function<void(std::shared_ptr<Stream>)>& handler) {
  if (shared_.connections.size(Phase::kStreaming) >= shared_.limits.streams) {
    return Refuse(503, "too many streams\n");
  }
  const bool chunked = parser_->get().version() >= 11;
  message_.emplace(beast::status::ok, chunked ? 11 : 10);
  SetCommonFields(kStreamType, *message_);
  message_->chunked(chunked);
  message_->keep_alive(false);
  serializer_.emplace(*message_);
  if (parser_->get().method() == beast::verb::head) {
    keep_alive_ = false;
    Enter(Phase::kAnswering, shared_.limits.answer_timeout);
    return beast::async_write_header(
        socket_, *serializer_, [self = shared_from_this()](Error error, size_t) { self->OnAnswered(error); });
  }
  Enter(Phase::kStreaming, shared_.limits.answer_timeout);
  stream_sends_ = true;  // the header
  stream_ = std::make_shared<Stream>(
      shared_.limits.stream_buffer_bytes,
      [weak = weak_from_this(), network = socket_.get_executor()] {
        asio::post(network, [weak] {
          if (auto self = weak.lock()) self->SendStream();
        });
      });
  beast::async_write_header(socket_, *serializer_, [self = shared_from_this()](Error error, size_t) {
    self->stream_sends_ = false;
    if (error) return self->Close();
    self->SendStream();
  });
  WatchStream();
  try {
    handler(stream_);
  } catch (...) {
    Close();
  }
}

void Connection::WatchStream() {
  buffer_.clear();
  socket_.async_read_some(buffer_.prepare(1024), [self = shared_from_this()](Error error, size_t) {
    if (error) return self->Close();
    self->WatchStream();  // whatever it has to say: there are no further requests behind a stream
  });
}

void Connection::SendStream() {
  if (!socket_.is_open() || stream_sends_) return;
  sending_ = stream_->Take();
  if (sending_.empty()) {
    deadline_.expires_at(asio::steady_timer::time_point::max());  // until the publisher has something to say
    return stream_->finished() ? EndStream() : void();
  }
  stream_sends_ = true;
  SetDeadline(shared_.limits.answer_timeout);
  auto sent = [self = shared_from_this()](Error error, size_t) {
    self->stream_sends_ = false;
    if (error) return self->Close();
    self->stream_->Sent();
    self->SendStream();
  };
  if (message_->chunked()) {
    asio::async_write(socket_, beast::make_chunk(asio::buffer(sending_)), std::move(sent));
  } else {
    asio::async_write(socket_, asio::buffer(sending_), std::move(sent));
  }
}

void Connection::EndStream() {
  stream_sends_ = true;
  SetDeadline(shared_.limits.answer_timeout);
  sending_ = message_->chunked() ? "0\r\n\r\n" : "";
  asio::async_write(socket_, asio::buffer(sending_), [self = shared_from_this()](Error error, size_t) {
    if (error || !self->socket_.is_open()) return self->Close();
    self->socket_.shutdown(tcp::socket::shutdown_send, error);
    self->Enter(Phase::kLingering, self->shared_.limits.linger_timeout);  // WatchStream sees the client's end
  });
}

}  // namespace ebbinghaus::http
