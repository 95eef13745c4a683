#include "server/http/rendered_page.h"

#include <utility>

#include "boost/asio/post.hpp"

namespace ebbinghaus::http {

Response Run(const std::function<Response()>& handler) try {
  return handler();
} catch (...) {  // the reason is nobody's business outside
  return {.status = 500, .body = "internal error\n"};
}

RenderedPage::RenderedPage(boost::asio::io_context& network, boost::asio::thread_pool& worker,
                           std::function<Response()> render, const Limits& limits)
    : network_(network), worker_(worker), render_(std::move(render)), limits_(limits), next_(network) {}

void RenderedPage::Ask(std::weak_ptr<void> asker, Answer answer) {
  // Those who left leave their entries: without this, connections that come and go could pile them up.
  if (waiting_.size() >= limits_.connections) std::erase_if(waiting_, [](const Waiting& w) { return w.asker.expired(); });
  waiting_.push_back({std::move(asker), std::move(answer)});
  if (!std::exchange(planned_, true)) {
    next_.async_wait([this](boost::system::error_code) { Begin(); });  // at once, if its time has passed
  }
}

void RenderedPage::Begin() {
  next_.expires_after(limits_.render_interval);
  running_ = std::exchange(waiting_, {});
  boost::asio::post(worker_, [this] {
    auto response = std::make_shared<const Response>(Run(render_));
    boost::asio::post(network_, [this, response] { Deliver(response); });
  });
}

void RenderedPage::Deliver(std::shared_ptr<const Response> response) {
  planned_ = !waiting_.empty();
  if (planned_) next_.async_wait([this](boost::system::error_code) { Begin(); });
  for (Waiting& waiting : std::exchange(running_, {})) {
    if (!waiting.asker.expired()) waiting.answer(response);
  }
}

}  // namespace ebbinghaus::http
