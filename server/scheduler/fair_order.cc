#include "server/scheduler/fair_order.h"

#include <algorithm>

namespace ebbinghaus::scheduler {
namespace {

uint32_t Share(uint32_t slots, size_t parties) {
  const auto n = static_cast<uint32_t>(parties);
  return std::max(1u, (slots + n - 1) / n);
}

// The party that waits and has most underway; null if none waits.
template <typename Parties>
auto LargestThatWaits(const Parties& parties) {
  const typename Parties::value_type* largest = nullptr;
  for (const auto& entry : parties) {
    if (entry.second.waiting == 0) continue;
    if (largest == nullptr || entry.second.underway() > largest->second.underway()) {
      largest = &entry;
    }
  }
  return largest;
}

template <typename Parties>
auto Find(Parties& parties, const std::string& name) {
  const auto found = parties.find(name);
  return found == parties.end() ? nullptr : &found->second;
}

}  // namespace

// A party that was served at this very time does not go before others by coming back.
void FairOrder::Enter(Party& party, uint64_t starts) {
  if (party.waiting > 0) return;
  party.due = std::max(party.due, 2 * starts);
  party.entered = ++entries_;
}

void FairOrder::Wait(Ticket ticket, const Client& client) {
  Owner& owner = owners_[client.owner];
  Connection& connection = owner.connections[client.connection];
  Enter(owner, starts_);
  Enter(connection, owner.starts);
  connection.line.push_back(ticket);
  known_[ticket] = {client, false};
  for (Party* party : {&root_, static_cast<Party*>(&owner), static_cast<Party*>(&connection)}) {
    ++party->waiting;
  }
}

void FairOrder::Start(Ticket ticket) {
  Known& known = known_.at(ticket);
  Owner& owner = owners_.at(known.client.owner);
  Connection& connection = owner.connections.at(known.client.connection);
  known.started = true;
  connection.line.erase(std::find(connection.line.begin(), connection.line.end(), ticket));
  owner.due = 2 * ++starts_ + 1;
  connection.due = 2 * ++owner.starts + 1;
  for (Party* party : {&root_, static_cast<Party*>(&owner), static_cast<Party*>(&connection)}) {
    --party->waiting;
    ++party->holding;
  }
}

void FairOrder::Leave(Ticket ticket) {
  const auto found = known_.find(ticket);
  const auto owner = owners_.find(found->second.client.owner);
  auto& connections = owner->second.connections;
  const auto connection = connections.find(found->second.client.connection);
  const auto party_count = found->second.started ? &Party::holding : &Party::waiting;
  for (Party* party : {&root_, static_cast<Party*>(&owner->second),
                       static_cast<Party*>(&connection->second)}) {
    --(party->*party_count);
  }
  if (!found->second.started) {
    auto& line = connection->second.line;
    line.erase(std::find(line.begin(), line.end(), ticket));
  }
  if (connection->second.underway() == 0) connections.erase(connection);
  if (owner->second.underway() == 0) owners_.erase(owner);
  known_.erase(found);
}

bool FairOrder::Before(const Party& a, bool a_over, const Party& b, bool b_over) {
  if (a_over != b_over) return b_over;
  return a.due != b.due ? a.due < b.due : a.entered < b.entered;
}

std::optional<FairOrder::Ticket> FairOrder::NextOf(
    const Owner& owner, uint32_t slots, const std::function<bool(Ticket)>& eligible) const {
  const uint32_t share = Share(slots, owner.connections.size());
  const Connection* best = nullptr;
  std::optional<Ticket> next;
  for (const auto& [name, connection] : owner.connections) {
    if (best != nullptr &&
        !Before(connection, connection.holding > share, *best, best->holding > share)) {
      continue;
    }
    const auto first = std::find_if(connection.line.begin(), connection.line.end(), eligible);
    if (first == connection.line.end()) continue;
    best = &connection;
    next = *first;
  }
  return next;
}

std::optional<FairOrder::Ticket> FairOrder::Next(
    const std::function<bool(Ticket)>& eligible) const {
  if (owners_.empty()) return std::nullopt;
  const uint32_t share = Share(slots_, owners_.size());
  const Owner* best = nullptr;
  std::optional<Ticket> next;
  for (const auto& [name, owner] : owners_) {
    if (best != nullptr && !Before(owner, owner.holding > share, *best, best->holding > share)) {
      continue;
    }
    const std::optional<Ticket> of_owner = NextOf(owner, share, eligible);
    if (!of_owner) continue;
    best = &owner;
    next = of_owner;
  }
  return next;
}

std::optional<FairOrder::Ticket> FairOrder::MakesRoomFor(const Client& client) const {
  const Owner* own = Find(owners_, client.owner);
  const auto* largest = LargestThatWaits(owners_);
  if (largest == nullptr) return std::nullopt;
  if (&largest->second != own &&
      largest->second.underway() >= (own == nullptr ? 0 : own->underway()) + 2) {
    return LargestThatWaits(largest->second.connections)->second.line.back();
  }
  if (own == nullptr) return std::nullopt;
  const auto* connection = LargestThatWaits(own->connections);
  const Connection* mine = Find(own->connections, client.connection);
  if (connection == nullptr ||
      connection->second.underway() < (mine == nullptr ? 0 : mine->underway()) + 2) {
    return std::nullopt;
  }
  return connection->second.line.back();
}

std::optional<FairOrder::Ticket> FairOrder::NewestOfLargest() const {
  const auto* owner = LargestThatWaits(owners_);
  if (owner == nullptr) return std::nullopt;
  return LargestThatWaits(owner->second.connections)->second.line.back();
}

uint32_t FairOrder::waiting(const Client& client) const {
  const Owner* owner = Find(owners_, client.owner);
  const Connection* own = owner == nullptr ? nullptr : Find(owner->connections, client.connection);
  return own == nullptr ? 0 : own->waiting;
}

}  // namespace ebbinghaus::scheduler
