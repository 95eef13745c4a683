#include "server/rpc/request_gate.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/retry.h"

namespace ebbinghaus::rpc {
namespace {

constexpr std::chrono::milliseconds kTick{5};  // how often those are looked at who read for longer than this
// Beside its message: headers, and what a stream may send unasked.
constexpr int64_t kBytesPerTick = 512;  // frames that are no message, such as those by which a stream is read
constexpr int64_t kSlackBytes = 96 << 10;

}  // namespace

void RequestGate::Place::HasRead(size_t bytes) {
  if (RequestGate* gate = gate_) gate->HasRead(id_, bytes);
}

void RequestGate::Place::Leave() {
  if (RequestGate* gate = gate_.exchange(nullptr)) gate->Leave(id_);
}

RequestGate::RequestGate(size_t budget_bytes, const base::Clock* clock)
    : budget_bytes_(budget_bytes), clock_(clock), thread_([this] { Watch(); }) {}

RequestGate::~RequestGate() {
  {
    scheduler::MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void RequestGate::Enter(std::shared_ptr<Reader> reader, const std::string& client, const std::string& peer,
                        size_t max_bytes, Place* place) {
  Readers begin;
  {
    scheduler::MutexLock lock(mutex_);
    const uint64_t id = next_id_++;
    place->id_ = id;
    place->gate_ = this;
    waiting_[id] = Entry{std::move(reader), client, peer, max_bytes, {}};
    if (max_bytes <= kAlwaysRoomBytes) {
      Begin(waiting_.extract(id), &begin);
    } else {
      begin = BeginWhoFits();
    }
  }
  for (const std::shared_ptr<Reader>& who : begin) who->BeginReading();
}

void RequestGate::CountHeaders(const std::string& peer) {
  scheduler::MutexLock lock(mutex_);
  const auto connection = connections_.find(peer);
  if (connection != connections_.end()) connection->second.credit += kSlackBytes;
}

size_t RequestGate::held_bytes() const {
  scheduler::MutexLock lock(mutex_);
  return held_bytes_;
}

void RequestGate::HasRead(uint64_t id, size_t bytes) {
  Readers begin;
  {
    scheduler::MutexLock lock(mutex_);
    const auto place = inside_.find(id);
    if (place == inside_.end() || place->second.reader == nullptr) return;
    place->second.reader = nullptr;
    --reading_;
    Hold(place->second, bytes);
    begin = BeginWhoFits();
  }
  for (const std::shared_ptr<Reader>& who : begin) who->BeginReading();
}

void RequestGate::Leave(uint64_t id) {
  Readers begin;
  Entries::node_type gone;  // its reader may be the last to hold the call: let go of it without the lock
  {
    scheduler::MutexLock lock(mutex_);
    gone = waiting_.extract(id);
    if (gone.empty()) {
      gone = inside_.extract(id);
      if (gone.empty()) return;
      Hold(gone.mapped(), 0);
      reading_ -= gone.mapped().reader != nullptr;
      begin = BeginWhoFits();
    }
  }
  for (const std::shared_ptr<Reader>& who : begin) who->BeginReading();
}

// The next is the longest waiting one of those whose clients hold least.
RequestGate::Readers RequestGate::BeginWhoFits() {
  Readers begin;
  while (!waiting_.empty()) {
    auto next = waiting_.end();
    size_t least = SIZE_MAX;
    for (auto entry = waiting_.begin(); entry != waiting_.end() && least > 0; ++entry) {
      const auto holder = held_by_.find(entry->second.client);
      const size_t held = holder == held_by_.end() ? 0 : holder->second;
      if (held < least) {
        next = entry;
        least = held;
      }
    }
    if (held_bytes_ + next->second.bytes > budget_bytes_) break;
    Begin(waiting_.extract(next), &begin);
  }
  return begin;
}

void RequestGate::Begin(Entries::node_type node, Readers* begin) {
  Entry& entry = node.mapped();
  entry.began = clock_->Now();
  Hold(entry, std::exchange(entry.bytes, 0));
  const auto connection = connections_.find(entry.peer);
  if (connection != connections_.end()) {
    connection->second.credit += static_cast<int64_t>(entry.bytes) + kSlackBytes;
  }
  begin->push_back(entry.reader);
  inside_.insert(std::move(node));
  if (reading_++ == 0) wake_.notify_all();
}

void RequestGate::Hold(Entry& entry, size_t bytes) {
  held_bytes_ = held_bytes_ - entry.bytes + bytes;
  const auto holder = held_by_.try_emplace(entry.client).first;
  holder->second = holder->second - entry.bytes + bytes;
  if (holder->second == 0) held_by_.erase(holder);
  entry.bytes = bytes;
}

void RequestGate::StopOverdue(base::TimePoint now, std::vector<Stop>* stop) {
  const base::Duration patience = waiting_.empty() ? kPatience : kShortPatience;
  for (const auto& [id, entry] : inside_) {
    if (entry.reader == nullptr || now - entry.began < patience) continue;
    stop->push_back({entry.reader, absl::ResourceExhaustedError(absl::StrCat(
                                       "the request did not arrive within ", base::Seconds(patience),
                                       " s; its place is needed for others"))});
  }
}

int64_t RequestGate::Allowed(const std::string& peer) const {
  int64_t allowed = 0;
  for (const auto& [id, entry] : inside_) {
    if (entry.reader != nullptr && entry.peer == peer) allowed += static_cast<int64_t>(entry.bytes) + kSlackBytes;
  }
  return allowed;
}

// Who sends too much cannot be told from others on its connection: the one that has been reading for longest is stopped, and
// the next one if that was not the one.
void RequestGate::StopOversized(base::TimePoint now, std::vector<Stop>* stop) {
  std::map<std::string, const Entry*> oldest;
  for (const auto& [id, entry] : inside_) {  // in order of arrival
    if (entry.reader != nullptr && now - entry.began >= kTick) oldest.emplace(entry.peer, &entry);
  }
  for (auto connection = connections_.begin(); connection != connections_.end();) {
    connection = oldest.count(connection->first) ? std::next(connection) : connections_.erase(connection);
  }
  for (const auto& [peer, entry] : oldest) {
    const auto [connection, is_new] = connections_.try_emplace(peer);
    if (is_new) connection->second = {ConnectionBytes(peer), Allowed(peer)};
    connection->second.credit += kBytesPerTick;
    connection->second.credit -= static_cast<int64_t>(connection->second.bytes.Arrived().value_or(0));
    if (connection->second.credit >= 0) continue;
    connection->second.credit = Allowed(peer) - static_cast<int64_t>(entry->bytes) - kSlackBytes;
    stop->push_back({entry->reader, base::NeverFits(absl::ResourceExhaustedError(absl::StrCat(
                                        "the request is larger than the ", entry->bytes, " bytes that it may have")))});
  }
}

void RequestGate::Watch() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  pthread_setname_np(pthread_self(), "rpc-gate");
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (reading_ == 0) {
      connections_.clear();
      wake_.wait(lock, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || reading_ > 0; });
    }
    wake_.wait_for(lock, kTick, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_; });
    if (stopping_) return;
    std::vector<Stop> stop;
    const base::TimePoint now = clock_->Now();
    StopOverdue(now, &stop);
    StopOversized(now, &stop);
    lock.unlock();
    for (const Stop& one : stop) one.reader->StopReading(one.status);
    stop.clear();  // perhaps the last to hold the call
    lock.lock();
  }
}

}  // namespace ebbinghaus::rpc
