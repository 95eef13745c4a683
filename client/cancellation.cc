#include "client/cancellation.h"

namespace ebbinghaus::client {

Cancellation::Scope::Scope(Cancellation& owner, grpc::ClientContext& context) : owner_(owner) {
  std::lock_guard lock(owner_.mutex_);
  owner_.context_ = &context;
  if (owner_.triggered_) context.TryCancel();
}

Cancellation::Scope::~Scope() {
  std::lock_guard lock(owner_.mutex_);
  owner_.context_ = nullptr;
}

bool Cancellation::Trigger() {
  std::lock_guard lock(mutex_);
  triggered_ = true;
  if (context_ == nullptr) return false;
  context_->TryCancel();
  return true;
}

bool Cancellation::triggered() const {
  std::lock_guard lock(mutex_);
  return triggered_;
}

}  // namespace ebbinghaus::client
