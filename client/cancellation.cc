#include "client/cancellation.h"

namespace ebbinghaus::client {

Cancellation::Scope::Scope(Cancellation& owner, grpc::ClientContext& context)
    : owner_(owner), context_(context) {
  std::lock_guard lock(owner_.mutex_);
  owner_.contexts_.insert(&context);
  if (owner_.triggered_) context.TryCancel();
}

Cancellation::Scope::~Scope() {
  std::lock_guard lock(owner_.mutex_);
  owner_.contexts_.erase(&context_);
}

bool Cancellation::Trigger() {
  std::lock_guard lock(mutex_);
  triggered_ = true;
  for (grpc::ClientContext* context : contexts_) context->TryCancel();
  return !contexts_.empty();
}

bool Cancellation::triggered() const {
  std::lock_guard lock(mutex_);
  return triggered_;
}

}  // namespace ebbinghaus::client
