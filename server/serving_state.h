// Whether requests are taken, and if not, why: what health, /readyz and /healthz answer.
#pragma once

#include <functional>
#include <mutex>
#include <string>

namespace ebbinghaus {

// Begins as loading. Thread safe.
class ServingState {
 public:
  void Loaded() { Change(&ServingState::loaded_, true); }
  // For good.
  void Draining() { Change(&ServingState::draining_, true); }
  // The engine does not come back from a step; false: it did after all.
  void Stuck(bool stuck) { Change(&ServingState::stuck_, stuck); }

  bool serving() const;
  bool alive() const;        // not stuck
  std::string name() const;  // "loading", "serving", "draining" or "stuck"

  // Calls `tell` now and with every change, in their order; null: no longer. Once this returns an earlier one is not called
  // any more.
  void OnChange(std::function<void(bool serving)> tell);

 private:
  void Change(bool ServingState::*what, bool value);
  bool ServingLocked() const { return loaded_ && !draining_ && !stuck_; }

  mutable std::mutex mutex_;
  bool loaded_ = false, draining_ = false, stuck_ = false;  // guarded by mutex_
  std::function<void(bool)> tell_;                          // guarded by mutex_
};

}  // namespace ebbinghaus
