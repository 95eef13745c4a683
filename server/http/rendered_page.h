// A page that takes a while to make, made once for all who wait.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "boost/asio/io_context.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/thread_pool.hpp"
#include "server/http/server.h"

namespace ebbinghaus::http {

// Runs the handler on `worker`, never twice at once, and no more often than the limits say, so that no number of clients
// makes it take more than its share of the processor. Used on the network's thread only.
class RenderedPage {
 public:
  using Answer = std::function<void(std::shared_ptr<const Response>)>;

  // Everything referred to must outlive this, and this must outlive the runs of `network`.
  RenderedPage(boost::asio::io_context& network, boost::asio::thread_pool& worker, std::function<Response()> render,
               const Limits& limits);

  // Calls `answer`, on the network's thread, with the result of a run that begins after this call, unless `asker` is gone
  // by then. Requires: an asker waits for one answer at a time.
  void Ask(std::weak_ptr<void> asker, Answer answer);

 private:
  struct Waiting {
    std::weak_ptr<void> asker;
    Answer answer;
  };
  void Begin();
  void Deliver(std::shared_ptr<const Response> response);

  boost::asio::io_context& network_;
  boost::asio::thread_pool& worker_;
  const std::function<Response()> render_;
  const Limits& limits_;
  boost::asio::steady_timer next_;  // when a run may begin
  bool planned_ = false;            // a run is underway, or next_ is waited for
  std::vector<Waiting> waiting_, running_;
};

// What `handler` answers; a 500 if it throws.
Response Run(const std::function<Response()>& handler);

}  // namespace ebbinghaus::http
