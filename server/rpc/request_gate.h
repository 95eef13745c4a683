// Decides when a call's message may come in, so that all messages together stay within a budget.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "server/base/clock.h"
#include "server/rpc/connection_bytes.h"
#include "server/scheduler/mutex.h"

namespace ebbinghaus::rpc {

// A call waits until there is room for a message as large as it may be; then it reads, and keeps the room its message really
// takes until it lets go. Next is one whose client holds least, so that no client's messages keep another's out. Two things gRPC 1.51 does not
// do are done here, by a thread that sleeps while nobody reads:
// - A message that is larger than allowed ends the call while it arrives. (gRPC looks at the size of what it has read, and
//   reads what the sender announces, up to 4 GiB.)
// - A sender who takes too long loses its place: after kPatience, or kShortPatience while others wait.
// Must outlive the calls. Thread safe.
class RequestGate {
 public:
  static constexpr std::chrono::seconds kPatience{20}, kShortPatience{2};
  static constexpr size_t kAlwaysRoomBytes = 4096;  // messages this small do not wait

  // A call that wants to read. The methods are called without a lock held.
  class Reader {
   public:
    virtual ~Reader() = default;
    virtual void BeginReading() = 0;
    // Instead of a message: why there will be none.
    virtual void StopReading(const absl::Status& status) = 0;
  };

  // A reader's place; the destructor lets go of it. Thread safe.
  class Place {
   public:
    ~Place() { Leave(); }
    // The message is there: its room is what it takes, and nobody waits for it any more.
    void HasRead(size_t bytes);
    void Leave();

   private:
    friend class RequestGate;
    std::atomic<RequestGate*> gate_ = nullptr;
    uint64_t id_ = 0;  // once gate_ is set
  };

  // `clock` must outlive this.
  RequestGate(size_t budget_bytes, const base::Clock* clock);
  ~RequestGate();

  // `reader` begins when there is room, perhaps before this returns. `peer` is gRPC's name of the connection's other end.
  // Requires: max_bytes is at most the budget; `place` is not in use.
  void Enter(std::shared_ptr<Reader> reader, const std::string& client, const std::string& peer, size_t max_bytes, Place* place);

  // A call came that will not read; its headers are nobody's message.
  void CountHeaders(const std::string& peer);

  size_t held_bytes() const;

 private:
  struct Entry {
    std::shared_ptr<Reader> reader;  // null: it has read
    std::string client, peer;
    size_t bytes = 0;  // may come, or have come
    base::TimePoint began;
  };
  struct Connection {
    ConnectionBytes bytes;
    int64_t credit = 0;  // what may still come before somebody here must be sending too much
  };
  using Entries = std::map<uint64_t, Entry>;

  using Readers = std::vector<std::shared_ptr<Reader>>;
  struct Stop {
    std::shared_ptr<Reader> reader;
    absl::Status status;
  };

  void HasRead(uint64_t id, size_t bytes);
  void Leave(uint64_t id);
  Readers BeginWhoFits() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Begin(Entries::node_type entry, Readers* begin) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Hold(Entry& entry, size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StopOverdue(base::TimePoint now, std::vector<Stop>* stop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void StopOversized(base::TimePoint now, std::vector<Stop>* stop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t Allowed(const std::string& peer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Watch();

  const size_t budget_bytes_;
  const base::Clock* const clock_;
  mutable scheduler::Mutex mutex_;
  std::condition_variable_any wake_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  size_t held_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  Entries inside_ ABSL_GUARDED_BY(mutex_), waiting_ ABSL_GUARDED_BY(mutex_);
  size_t reading_ ABSL_GUARDED_BY(mutex_) = 0;  // of inside_
  std::map<std::string, size_t> held_by_ ABSL_GUARDED_BY(mutex_);  // the bytes of inside_ by client
  std::map<std::string, Connection> connections_ ABSL_GUARDED_BY(mutex_);  // by peer, of those that read
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: uses all of the above
};

}  // namespace ebbinghaus::rpc
