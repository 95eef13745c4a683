#include "server/http/connection_table.h"

#include <utility>

namespace ebbinghaus::http {

ConnectionTable::Place ConnectionTable::Add(std::shared_ptr<Connection> connection) {
  auto& list = In(Phase::kReading);
  return {Phase::kReading, list.insert(list.end(), std::move(connection))};
}

void ConnectionTable::Move(Place& place, Phase phase) {
  In(phase).splice(In(phase).end(), In(place.phase), place.entry);
  place.phase = phase;
}

void ConnectionTable::Remove(const Place& place) { In(place.phase).erase(place.entry); }

std::shared_ptr<Connection> ConnectionTable::FirstToGo(Phase last) const {
  for (size_t i = 0; i <= static_cast<size_t>(last); ++i) {
    if (!phases_[i].empty()) return phases_[i].front();
  }
  return nullptr;
}

size_t ConnectionTable::size() const {
  size_t all = 0;
  for (const auto& list : phases_) all += list.size();
  return all;
}

}  // namespace ebbinghaus::http
