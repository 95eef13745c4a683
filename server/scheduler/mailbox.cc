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
  bool large = false;
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
    large = NextIsLarge();
  }
  Call(std::move(ready), large);
}

bool Mailbox::NextIsLarge() const {
  return courier_ != nullptr && !events_.empty() && events_.front().bytes > kLargeEventBytes && !Courier::Here();
}

void Mailbox::Call(std::function<void()> ready, bool large) {
  if (!ready) return;
  if (large) return courier_->Post(std::move(ready));
  ready();
}

bool Mailbox::for_courier() const {
  MutexLock lock(mutex_);
  return NextIsLarge();
}

void Mailbox::SetCourier(std::shared_ptr<Courier> courier) { courier_ = std::move(courier); }

bool Mailbox::full() const {
  MutexLock lock(mutex_);
  return bytes_ >= capacity_bytes_;
}

bool Mailbox::cancelled() const {
  MutexLock lock(mutex_);
  return cancelled_;
}

size_t Mailbox::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

std::optional<base::TimePoint> Mailbox::last_read() const {
  MutexLock lock(mutex_);
  return last_read_;
}

bool Mailbox::done() const {
  MutexLock lock(mutex_);
  return hang_up_ == nullptr && (cancelled_ || events_.empty());
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
    if (clock_ != nullptr) last_read_ = clock_->Now();
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
  bool at_once, large;
  {
    MutexLock lock(mutex_);
    replaced.swap(ready_);
    at_once = !events_.empty();
    large = NextIsLarge();
    if (!at_once) ready_ = std::move(ready);
  }
  if (at_once) Call(std::move(ready), large);
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
