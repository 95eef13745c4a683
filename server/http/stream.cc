#include "server/http/stream.h"

#include <utility>

namespace ebbinghaus::http {

Stream::Stream(size_t capacity_bytes, std::function<void()> wake)
    : capacity_bytes_(capacity_bytes), wake_(std::move(wake)) {}

bool Stream::Write(std::string_view bytes) {
  std::lock_guard lock(mutex_);
  if (wake_ == nullptr || closed_ || bytes.size() > capacity_bytes_ - sending_bytes_ - queued_.size()) return false;
  const bool idle = queued_.empty() && sending_bytes_ == 0;
  queued_.append(bytes);
  if (idle) wake_();
  return true;
}

void Stream::Close() {
  std::lock_guard lock(mutex_);
  if (std::exchange(closed_, true) || wake_ == nullptr) return;
  wake_();
}

bool Stream::gone() const {
  std::lock_guard lock(mutex_);
  return wake_ == nullptr;
}

void Stream::OnGone(std::function<void()> tell) {
  {
    std::lock_guard lock(mutex_);
    if (wake_ != nullptr) {
      tell_ = std::move(tell);
      return;
    }
  }
  tell();
}

std::string Stream::Take() {
  std::lock_guard lock(mutex_);
  sending_bytes_ = queued_.size();
  return std::exchange(queued_, {});
}

void Stream::Sent() {
  std::lock_guard lock(mutex_);
  sending_bytes_ = 0;
}

bool Stream::finished() const {
  std::lock_guard lock(mutex_);
  return closed_ && queued_.empty() && sending_bytes_ == 0;
}

void Stream::Gone() {
  std::function<void()> tell;
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(wake_, nullptr) == nullptr) return;
    tell = std::exchange(tell_, nullptr);
  }
  if (tell) tell();
}

}  // namespace ebbinghaus::http
