// Which connections there are, and which gives way when there is no room for another.
#pragma once

#include <array>
#include <cstddef>
#include <list>
#include <memory>

namespace ebbinghaus::http {

class Connection;

// What a connection is doing, those first that give way first. Streams are bounded by a limit of their own and stay.
enum class Phase { kLingering, kReading, kAnswering, kWaiting, kStreaming };
inline constexpr size_t kPhases = 5;

// Keeps connections alive. Used on the network's thread only.
class ConnectionTable {
 public:
  struct Place {
    Phase phase;
    std::list<std::shared_ptr<Connection>>::iterator entry;
  };

  Place Add(std::shared_ptr<Connection> connection);
  void Move(Place& place, Phase phase);  // behind those that are in it already
  void Remove(const Place& place);

  // The one that has been longest in the first phase, up to `last`, that has any; null if none has.
  std::shared_ptr<Connection> FirstToGo(Phase last) const;
  size_t size() const;
  size_t size(Phase phase) const { return phases_[static_cast<size_t>(phase)].size(); }

 private:
  std::list<std::shared_ptr<Connection>>& In(Phase phase) { return phases_[static_cast<size_t>(phase)]; }

  std::array<std::list<std::shared_ptr<Connection>>, kPhases> phases_;
};

}  // namespace ebbinghaus::http
