#include "server/scheduler/mailbox.h"

namespace ebbinghaus::scheduler {
namespace {

// What is left of an event once its reader has cancelled: how the stream ends.
std::optional<absl::Status> EndingOfCancelled(const Event& event) {
  if (const auto* status = std::get_if<absl::Status>(&event)) return *status;
  if (std::holds_alternative<Finished>(event)) return absl::CancelledError("the call was cancelled");
  return std::nullopt;
}

}  // namespace

void Mailbox::Push(Event event) {
  size_t bytes = SizeBytes(event);
  std::function<void()> ready;
  {
    MutexLock lock(mutex_);
    if (cancelled_) {
      std::optional<absl::Status> ending = EndingOfCancelled(event);
      if (!ending) return;
      event = *std::move(ending);
      bytes = SizeBytes(event);
    }
    events_.push_back({std::move(event), bytes});
    bytes_ += bytes;
    ready.swap(ready_);
  }
  if (ready) ready();
}

bool Mailbox::full() const {
  MutexLock lock(mutex_);
  return bytes_ >= capacity_bytes_;
}

bool Mailbox::cancelled() const {
  MutexLock lock(mutex_);
  return cancelled_;
}

std::optional<base::TimePoint> Mailbox::cancelled_at() const {
  MutexLock lock(mutex_);
  return cancelled_at_;
}

void Mailbox::SetWake(std::function<void()> wake) {
  MutexLock lock(mutex_);
  wake_.swap(wake);
}

void Mailbox::SetHangUp(std::function<void()> hang_up) {
  MutexLock lock(mutex_);
  hang_up_.swap(hang_up);
}

void Mailbox::Abandon() {
  Cancel();
  std::function<void()> hang_up;
  {
    MutexLock lock(mutex_);
    hang_up.swap(hang_up_);
  }
  if (hang_up) hang_up();
}

std::optional<Event> Mailbox::Pop() {
  std::optional<Event> event;
  std::function<void()> wake;
  {
    MutexLock lock(mutex_);
    if (events_.empty()) return std::nullopt;
    const bool was_full = bytes_ >= capacity_bytes_;
    event = std::move(events_.front().event);
    bytes_ -= events_.front().bytes;
    events_.pop_front();
    if (was_full && bytes_ < capacity_bytes_) wake = wake_;
  }
  if (wake) wake();
  return event;
}

void Mailbox::OnReady(std::function<void()> ready) {
  std::function<void()> replaced;
  bool at_once;
  {
    MutexLock lock(mutex_);
    replaced.swap(ready_);
    at_once = !events_.empty();
    if (!at_once) ready_ = std::move(ready);
  }
  if (at_once && ready) ready();
}

void Mailbox::Cancel() {
  std::deque<Waiting> dropped;
  std::function<void()> wake;
  {
    MutexLock lock(mutex_);
    if (cancelled_) return;
    cancelled_ = true;
    if (clock_ != nullptr) cancelled_at_ = clock_->Now();
    dropped.swap(events_);
    bytes_ = 0;
    if (!dropped.empty()) {
      if (std::optional<absl::Status> ending = EndingOfCancelled(dropped.back().event)) {
        Event kept = *std::move(ending);
        bytes_ = SizeBytes(kept);
        events_.push_back({std::move(kept), bytes_});
      }
    }
    wake = wake_;
  }
  if (wake) wake();
}

}  // namespace ebbinghaus::scheduler
