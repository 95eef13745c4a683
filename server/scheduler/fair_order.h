// Whose turn it is among those who wait: start-time fairness between owners, and between the
// connections of each. Decided in docs/decisions/0006-fairness.md.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "server/scheduler/client.h"

namespace ebbinghaus::scheduler {

// Time is counted in starts. A party (an owner, or a connection beside the owner's others) that was
// served is due again at the time of its last start; one that comes, or comes back, is due at the
// present time, which is never before a party that waited through a start. The one due longest is
// next, so that a party's next request starts after at most as many starts as parties wait, however
// many come after it. Of a party's own requests the first to come is the first to go.
//
// A party that holds more than its share of the slots (an equal part, rounded up, for all that wait
// or hold) lets the others go first, but leaves no slot unused. What it remembers is bounded by the
// requests that it holds. Plain state, without clock or threads.
class FairOrder {
 public:
  using Ticket = uint64_t;  // of a request, chosen by the caller, rising

  // `slots`: how many requests run at once.
  explicit FairOrder(uint32_t slots) : slots_(slots) {}

  // The request waits at the end of its client's line. Requires: the ticket is not in use.
  void Wait(Ticket ticket, const Client& client);
  // It has its turn and holds a slot. Requires: it waits.
  void Start(Ticket ticket);
  // It waits no longer, or frees its slot.
  void Leave(Ticket ticket);

  // Who is next among those that wait and are `eligible`.
  std::optional<Ticket> Next(const std::function<bool(Ticket)>& eligible) const;

  // Which waiting request makes room for one more of `client` when there is none: the newest of the
  // owner, and there of the connection, that has most underway, provided that it then still has at
  // least as many as the client; nullopt when nobody has.
  std::optional<Ticket> MakesRoomFor(const Client& client) const;
  // The same for nobody in particular; nullopt only if none waits.
  std::optional<Ticket> NewestOfLargest() const;

  uint32_t waiting() const { return root_.waiting; }
  uint32_t holding() const { return root_.holding; }
  // Of this client, on all connections of its owner.
  uint32_t waiting(const Client& client) const;
  size_t owners() const { return owners_.size(); }

 private:
  struct Party {
    uint32_t waiting = 0, holding = 0;
    uint64_t due = 0;      // twice the number of starts, plus one if it was served then
    uint64_t entered = 0;  // of those equally due, the first to come is next
    uint32_t underway() const { return waiting + holding; }
  };
  struct Connection : Party {
    std::deque<Ticket> line;
  };
  struct Owner : Party {
    std::map<std::string, Connection> connections;
    uint64_t starts = 0;
  };
  struct Known {
    Client client;
    bool started = false;
  };

  void Enter(Party& party, uint64_t starts);
  static bool Before(const Party& a, bool a_over, const Party& b, bool b_over);
  std::optional<Ticket> NextOf(const Owner& owner, uint32_t slots,
                               const std::function<bool(Ticket)>& eligible) const;

  const uint32_t slots_;
  std::map<std::string, Owner> owners_;  // that have requests here
  std::unordered_map<Ticket, Known> known_;
  Party root_;
  uint64_t starts_ = 0;
  uint64_t entries_ = 0;
};

}  // namespace ebbinghaus::scheduler
