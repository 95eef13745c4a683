// What a client of the HTTP port may send. Input: how many bytes come at a time, then the bytes. Connections run on this thread,
// over a pair of sockets, with the deadlines that they have; no page waits.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

#include "boost/asio/io_context.hpp"
#include "server/base/check.h"
#include "server/http/connection.h"
#include "tests/fuzz/support.h"

namespace ebbinghaus::http {
namespace {

Routes MakeRoutes() {
  Routes routes;
  routes.quick["/"] = [] { return Response{.body = "index"}; };
  routes.quick["/healthz"] = [] { return Response{.body = "ok"}; };
  routes.quick["/large"] = [] { return Response{.body = std::string(10000, 'x')}; };
  routes.quick["/throws"] = []() -> Response { throw std::runtime_error("no"); };
  routes.streams["/events"] = [](std::shared_ptr<Stream> stream) {
    EBB_CHECK(stream->Write("data: 1\n\n"));
    stream->Close();
  };
  return routes;
}

// The client's end of a connection that is served on `network`.
class Client {
 public:
  Client(boost::asio::io_context& network, Shared& shared) : network_(network) {
    int ends[2];
    EBB_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    end_ = ends[0];
    boost::asio::ip::tcp::socket socket(network);
    socket.assign(boost::asio::ip::tcp::v4(), ends[1]);
    Connection::Start(std::move(socket), shared);
  }

  void Send(std::string_view bytes) {
    send(end_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    Receive();
  }

  std::string Finish() {
    shutdown(end_, SHUT_WR);
    Receive();
    close(end_);
    Work();
    return std::move(received_);
  }

 private:
  void Work() {
    network_.restart();
    network_.poll();
  }

  void Receive() {
    char buffer[16384];
    ssize_t bytes = 0;
    do {
      Work();
      bytes = recv(end_, buffer, sizeof buffer, 0);
      if (bytes > 0) received_.append(buffer, static_cast<size_t>(bytes));
    } while (bytes > 0);
  }

  boost::asio::io_context& network_;
  int end_ = -1;
  std::string received_;
};

void CheckAnswers(const std::string& answers) {
  if (answers.empty()) return;
  EBB_CHECK(answers.rfind("HTTP/1.", 0) == 0 && answers.size() > 12);
  const int status = std::atoi(answers.c_str() + 9);
  constexpr int kKnown[] = {200, 400, 404, 405, 413, 431, 500, 503, 505};
  EBB_CHECK(std::find(std::begin(kKnown), std::end(kKnown), status) != std::end(kKnown));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static const Routes routes = MakeRoutes();
  static const Limits limits{.header_bytes = 1024, .requests_per_connection = 5};
  static const std::map<std::string, std::unique_ptr<RenderedPage>> rendered;
  boost::asio::io_context network(1);
  Shared shared{routes, limits, rendered, {}};
  const size_t at_a_time = data[0] == 0 ? size : data[0];
  std::string_view bytes = fuzz::AsText(data + 1, size - 1);
  const fuzz::PeakMemory memory;
  Client client(network, shared);
  for (; !bytes.empty(); bytes.remove_prefix(std::min(at_a_time, bytes.size()))) client.Send(bytes.substr(0, at_a_time));
  CheckAnswers(client.Finish());
  EBB_CHECK(memory.bytes() <= 256 << 10);
  EBB_CHECK(shared.connections.size() == 0);  // the client has gone
  return 0;
}

}  // namespace ebbinghaus::http
