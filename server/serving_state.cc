#include "server/serving_state.h"

#include <utility>

namespace ebbinghaus {

bool ServingState::serving() const {
  std::lock_guard lock(mutex_);
  return ServingLocked();
}

bool ServingState::alive() const {
  std::lock_guard lock(mutex_);
  return !stuck_;
}

std::string ServingState::name() const {
  std::lock_guard lock(mutex_);
  return stuck_ ? "stuck" : draining_ ? "draining" : loaded_ ? "serving" : "loading";
}

void ServingState::OnChange(std::function<void(bool serving)> tell) {
  std::lock_guard lock(mutex_);
  tell_ = std::move(tell);
  if (tell_) tell_(ServingLocked());
}

void ServingState::Change(bool ServingState::*what, bool value) {
  std::lock_guard lock(mutex_);
  this->*what = value;
  if (tell_) tell_(ServingLocked());
}

}  // namespace ebbinghaus
